"""Which ground-truth box each anchor or proposal belongs to, and the labels that follow."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou, widths_heights

# Labels that are no class; class numbers begin at 1.
IGNORED = -1
BACKGROUND = 0


def match_boxes(boxes: np.ndarray, truth: np.ndarray):
    """Match boxes with the ground truth of their image.

    Args:
        boxes: (K, 4) float32 anchors or proposals.
        truth: (G, 4) float32; G may be 0.

    Returns:
        matched: (K,) int64: the ground-truth box each overlaps most, the first of equals (0 when
            G is 0).
        overlaps: (K,) float32: that overlap.
        is_best: (K,) bool: no other box overlaps some ground-truth box more.
    """
    if len(truth) == 0:
        nothing = np.zeros(len(boxes), dtype=np.int64)
        return nothing, nothing.astype(np.float32), nothing.astype(bool)
    # Ground-truth box by ground-truth box: rows of the overlaps are contiguous, columns are not.
    iou = pairwise_iou(boxes, truth).T
    overlaps = iou[0].copy()
    matched = np.zeros(len(boxes), dtype=np.int64)
    is_best = np.zeros(len(boxes), dtype=bool)
    for index, row in enumerate(iou):
        if index:
            matched[row > overlaps] = index
            np.maximum(overlaps, row, out=overlaps)
        # A ground-truth box outside every box has a best overlap of 0, shared by all: no match.
        best = row.max(initial=0)
        if best > 0:
            is_best |= row == best
    return matched, overlaps, is_best


def covered_fraction(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Largest share of each box's area that lies in one region.

    Args:
        boxes: (K, 4).
        regions: (C, 4) crowds; C may be 0.

    Returns:
        (K,) from 0 to 1.
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
    """Which boxes (K, 4) have more than a fraction of their area in one of the crowds (C, 4).

    Args:
        threshold: TRAIN.CROWD_FILTER_THRESH; 0 or less switches the filter off: then none do.

    Returns:
        (K,) bool.
    """
    if threshold <= 0:
        return np.zeros(len(boxes), dtype=bool)
    return covered_fraction(boxes, crowds) > threshold
