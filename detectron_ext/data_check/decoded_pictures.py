"""Decoding every picture: which cannot be read, and which are nearly the same."""

from __future__ import annotations

from collections import defaultdict
from typing import Sequence

from detectron_ext.counted import counted
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.near_duplicates import near_duplicates, thumbnail
from detectron_ext.data.transforms import read_image
from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding
from detectron_ext.data_check.same_images import ImageFile
from detectron_ext.errors import DatasetError


def decode_pictures(
    records: Sequence[ImageRecord],
    deep: str,
) -> tuple[list[Finding], list[list[ImageFile]]]:
    """Decode the pictures of records as training does.

    Args:
        records: the images; their files exist.
        deep: LIBRA.DATA.DEEP_IMAGES.

    Returns:
        findings: one for the pictures of each data set that cannot be read.
        groups: at least two images each, which are nearly the same although their files may differ.
    """
    unreadable: dict[str, list] = defaultdict(list)
    files, thumbnails = [], []
    for record in records:
        try:
            image = read_image(record, deep)
        except DatasetError as error:
            # The message has more than the reason: the data set and the path.
            reason = str(error).partition(f"{record.path} ")[2] or str(error)
            unreadable[record.dataset_name].append((record, reason))
            continue
        files.append(ImageFile(record.dataset_name, record.image_id, record.path))
        thumbnails.append(thumbnail(image))
    findings = [
        Finding(
            f"{name}: {counted(len(failed), 'picture')} cannot be read; first "
            f"{failed[0][0].path}, which {failed[0][1]}",
            [Case(name, record.image_id, NO_BOXES, why) for record, why in failed[:MAX_CASES]],
        )
        for name, failed in unreadable.items()
    ]
    groups = [group for group in near_duplicates(thumbnails) if len(group) > 1]
    return findings, [[files[index] for index in group] for group in groups]
