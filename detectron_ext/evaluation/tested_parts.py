"""The parts of a test that ran on ranges of the images (test_net --range).

The name of a part's file says which images were tested: ``detections_range_0_500.json`` holds the
detections of the first 500 images of the data set, in the order of their ids. Upstream Detectron
writes ``detection_range_0_500.pkl``. A model with MODEL.RPN_ONLY writes
``rpn_proposals_range_0_500.pkl``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from detectron_ext.counted import counted
from detectron_ext.errors import UserError
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_JSON_BYTES

_NAME = re.compile(r"(detections?|rpn_proposals)_range_(\d+)_(\d+)\.(json|pkl)")


class Part(NamedTuple):
    """The file of a part.

    Attributes:
        path: the file.
        start: position of its first image in the data set.
        end: position after its last image; it may exceed the number of images.
    """

    path: Path
    start: int
    end: int

    @property
    def untested_path(self) -> Path:
        """The file that lists the ids of the part's images that were skipped."""
        return self.path.with_name(untested_name(self.start, self.end))


def untested_name(start: int, end: int) -> str:
    """Return the name of the file that lists the images that the test of a part skipped."""
    return f"untested_range_{start}_{end}.json"


def as_part(path: Path) -> Part | None:
    """Return the part that a file holds by its name; None for another file."""
    match = _NAME.fullmatch(path.name)
    return Part(path, int(match.group(2)), int(match.group(3))) if match else None


def parts_in(folder: Path) -> list[Part]:
    """Return the parts in a folder, in the order of their images.

    Raises:
        UserError: it has parts of detections and of proposals.
    """
    found = [(path, as_part(path)) for path in sorted(folder.iterdir())]
    parts = [part for _, part in found if part]
    if len({part.path.name.split("_range_")[0] for part in parts}) > 1:
        raise UserError(
            f"{folder} has parts of several kinds ({parts[0].path.name}, {parts[-1].path.name}): "
            "name the files of one kind"
        )
    return sorted(parts, key=lambda part: part.start)


def check_parts(parts: Sequence[Part], num_images: int, partial: bool) -> list[int]:
    """Check that parts cover the images of a data set once.

    Args:
        parts: the parts.
        num_images: number of images of the data set.
        partial: whether images may be missing.

    Returns:
        The positions of the images that no part covers, in order.

    Raises:
        UserError: two parts overlap, a part has no image of the data set, or images are missing.
    """
    parts = sorted(parts, key=lambda part: part.start)
    for part in parts:
        if not part.start < min(part.end, num_images):
            raise UserError(
                f"{part.path} holds no image of this data set, which has {num_images}: name the "
                "data set that was tested"
            )
    for part, following in zip(parts, parts[1:]):
        if following.start < part.end:
            raise UserError(
                f"{part.path.name} and {following.path.name} overlap: remove the older test of "
                "these images"
            )
    covered = {place for part in parts for place in range(part.start, part.end)}
    missing = [place for place in range(num_images) if place not in covered]
    if missing and not partial:
        end = next(p for p in range(missing[0], num_images + 1) if p in covered or p == num_images)
        raise UserError(
            f"{len(missing)} of {counted(num_images, 'image')} missing from the parts, first "
            f"{missing[0]} to {end - 1}: test with --range {missing[0]} {end}, or score the other "
            "images with --partial"
        )
    return missing


def untested_of(part: Part) -> list:
    """Return the ids of the images of a part that its test skipped; [] if it has no list of them.

    Raises:
        UserError: the list cannot be read.
    """
    if not part.untested_path.exists():
        return []
    try:
        content: Any = json.loads(read_text(part.untested_path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {part.untested_path}: test this part again") from error
    if not isinstance(content, list):
        raise UserError(f"{part.untested_path} is not a list of image ids: test this part again")
    return content
