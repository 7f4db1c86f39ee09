"""One image and its ground truth, as training and testing pass it around."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detectron_ext.geometry.boxes import mirror


@dataclass
class ImageRecord:
    """An image of a data set, not read yet.

    Attributes:
        image_id: its id in the COCO file.
        path: image file.
        height, width: in pixels, as the COCO file states them.
        boxes: (N, 4) float32 ground truth, x1 y1 x2 y2 in pixels; N may be 0.
        classes: (N,) int32, 1-based; 0 is the background.
        is_crowd: (N,) bool: the box covers a crowd, which is neither object nor background.
        flipped: the image is to be mirrored left to right once read; boxes already are.
        dataset_name: catalog name.
        proposals: (P, 4) as a proposals file lists them, never mirrored; None without a file. See
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
        """Whether any box is a single object rather than a crowd."""
        return bool((~self.is_crowd).any())


def flip_horizontally(record: ImageRecord) -> ImageRecord:
    """Return the record of the mirrored image; flipping twice gives the first one back."""
    boxes = mirror(record.boxes, record.width)
    return replace(record, boxes=boxes, flipped=not record.flipped)
