"""The record of an image: its file and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detectron_ext.geometry.boxes import mirror


@dataclass
class ImageRecord:
    """An image of a data set that has not been read yet.

    Attributes:
        image_id: id of the image in the COCO file.
        path: image file.
        height, width: size in pixels according to the COCO file.
        boxes: (N, 4) float32 ground truth, x1 y1 x2 y2 in pixels; N may be 0.
        classes: (N,) int32 class numbers, from 1.
        is_crowd: (N,) bool; a crowd counts neither as an object nor as background.
        flipped: whether the image must be mirrored left to right after reading. The boxes are
            mirrored already.
        dataset_name: catalog name of the data set.
        proposals: (P, 4) boxes of a proposals file, never mirrored; None without a file. See
            :func:`detectron_ext.data.proposals.usable_proposals`.
    """

    image_id: Any
    path: str
    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    flipped: bool
    dataset_name: str
    proposals: np.ndarray | None = None

    @property
    def has_ground_truth(self) -> bool:
        """Whether any box is an object and not a crowd."""
        return bool((~self.is_crowd).any())


def flip_horizontally(record: ImageRecord) -> ImageRecord:
    """Return the record of the mirrored image. Flipping twice gives the first record again."""
    boxes = mirror(record.boxes, record.width)
    return replace(record, boxes=boxes, flipped=not record.flipped)
