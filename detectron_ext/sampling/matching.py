"""Matches anchors and proposals with ground-truth boxes."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou, widths_heights
from detectron_ext.registry import Protocol

# Labels that are not class numbers, which begin at 1.
IGNORED = -1
BACKGROUND = 0


class GroundTruthImage(Protocol):
    """The annotated objects of one image. Coordinates are in pixels of the network's input.

    Attributes:
        image: (rows, columns, any number of channels), the image before padding. Only its shape is
            used.
        boxes: (G, 4) float32 rows (x1, y1, x2, y2). G may be 0.
        classes: (G,) int32 class numbers, from 1.
        is_crowd: (G,) bool.
    """

    @property
    def image(self) -> np.ndarray: ...

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def classes(self) -> np.ndarray: ...

    @property
    def is_crowd(self) -> np.ndarray: ...


def match_boxes(boxes: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match boxes with the ground-truth boxes of their image.

    Args:
        boxes: (K, 4) float32 anchors or proposals.
        truth: (G, 4) float32 ground-truth boxes. G may be 0.

    Returns:
        matched: (K,) int64, the ground-truth box that each box overlaps most, the first one of
            equals; 0 if G is 0.
        overlaps: (K,) float32, the IoU with that ground-truth box; 0 if G is 0.
        is_best: (K,) bool, whether the box overlaps some ground-truth box as much as the best box
            does.
    """
    if len(truth) == 0:
        nothing = np.zeros(len(boxes), dtype=np.int64)
        return nothing, nothing.astype(np.float32), nothing.astype(bool)
    # The loop runs over ground-truth boxes, since the rows of the transposed overlaps are
    # contiguous in memory.
    iou = pairwise_iou(boxes, truth).T
    overlaps = iou[0].copy()
    matched = np.zeros(len(boxes), dtype=np.int64)
    is_best = np.zeros(len(boxes), dtype=bool)
    for index, row in enumerate(iou):
        if index:
            matched[row > overlaps] = index
            np.maximum(overlaps, row, out=overlaps)
        # If no box touches the ground-truth box, its best overlap is 0, and no box matches it.
        best = row.max(initial=0)
        if best > 0:
            is_best |= row == best
    return matched, overlaps, is_best


def covered_fraction(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return the largest fraction of each box's area that lies in one of the regions.

    Args:
        boxes: (K, 4) boxes.
        regions: (C, 4) boxes of crowds. C may be 0.

    Returns:
        (K,) float32, from 0 to 1.
    """
    width, height = widths_heights(boxes)
    largest = np.zeros(len(boxes), dtype=np.float32)
    for x1, y1, x2, y2 in regions:
        overlap_x = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1) + 1
        overlap_y = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1) + 1
        inside = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
        np.maximum(largest, inside / (width * height), out=largest)
    return largest


def lies_in_crowd(boxes: np.ndarray, crowds: np.ndarray, threshold: float) -> np.ndarray:
    """Return which boxes have more than a fraction of their area in one of the crowds.

    Args:
        boxes: (K, 4) boxes.
        crowds: (C, 4) boxes of crowds. C may be 0.
        threshold: the fraction, TRAIN.CROWD_FILTER_THRESH. If it is 0 or less, the filter is off
            and the result is all False.

    Returns:
        (K,) bool.
    """
    if threshold <= 0:
        return np.zeros(len(boxes), dtype=bool)
    return covered_fraction(boxes, crowds) > threshold
