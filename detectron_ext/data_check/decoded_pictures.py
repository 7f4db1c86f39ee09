"""Decoding every picture: which cannot be read, and which look the same."""

from __future__ import annotations

from collections import defaultdict
from typing import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from detectron_ext.data.image_record import ImageRecord
from detectron_ext.data.transforms import read_image
from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding
from detectron_ext.data_check.same_images import ImageFile
from detectron_ext.errors import DatasetError

# A picture is searched for by 4 x 4 means of its brightness, and compared by 16 x 16 colours.
_COARSE, _FINE = 4, 16
# A picture that was compressed again differs by less: distance of the means, and the mean
# difference of the colours, both in grey levels.
_MAX_DISTANCE, _MAX_DIFFERENCE = 4.0, 2.0
# Neighbours that are compared with each picture; they join larger groups.
_NEIGHBOURS = 8


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
        groups: at least two images each, which look the same although their files may differ.
    """
    unreadable: dict[str, list] = defaultdict(list)
    files, thumbnails = [], []
    for record in records:
        try:
            image = read_image(record, deep)
        except DatasetError as error:
            unreadable[record.dataset_name].append((record, str(error)))
            continue
        files.append(ImageFile(record.dataset_name, record.image_id, record.path))
        thumbnails.append(cv2.resize(image, (_FINE, _FINE), interpolation=cv2.INTER_AREA))
    findings = [
        Finding(
            f"{name}: {len(failed)} pictures cannot be read; first: {failed[0][1]}",
            [Case(name, record.image_id, NO_BOXES, text) for record, text in failed[:MAX_CASES]],
        )
        for name, failed in unreadable.items()
    ]
    groups = same_thumbnails(np.array(thumbnails)) if len(files) > 1 else []
    return findings, [[files[index] for index in group] for group in groups]


def same_thumbnails(thumbnails: np.ndarray) -> list[list[int]]:
    """Return groups of at least two thumbnails that look the same, as indices.

    Args:
        thumbnails: (N, 16, 16, 3) uint8; N is at least 2.
    """
    count, step = len(thumbnails), _FINE // _COARSE
    blocks = thumbnails.reshape(count, _COARSE, step, _COARSE, step, 3)
    means = blocks.mean(axis=(2, 4, 5), dtype=np.float64).reshape(count, -1)
    neighbours = min(_NEIGHBOURS, count)
    _, found = cKDTree(means).query(means, k=neighbours, distance_upper_bound=_MAX_DISTANCE)
    one = np.repeat(np.arange(count), neighbours)
    other = found.ravel()
    near = (other < count) & (one != other)  # a missing neighbour has the index N
    one, other = one[near], other[near]
    pairs = [
        (a, b)
        for a, b in zip(one, other)
        if np.abs(thumbnails[a].astype(np.int16) - thumbnails[b]).mean() <= _MAX_DIFFERENCE
    ]
    if not pairs:
        return []
    a, b = np.array(pairs).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    groups = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        groups[label].append(index)
    return [group for group in groups.values() if len(group) > 1]
