"""The largest IoU of boxes with the anchors of their image, without making the anchors.

The anchors of one shape lie on a grid. The intersection with a box is the product of an overlap in
x, which depends on the column alone, and one in y, which depends on the row alone. Each is largest
at the grid position whose centre is nearest to the centre of the box. So a box needs one IoU for
each shape of each level, and an image of any size costs the same.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from detectron_ext.geometry.anchors import AnchorLevel

# This many boxes at a time keep the temporary arrays in the processor's cache.
_CHUNK = 16384


def best_anchor_overlaps(
    boxes: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    levels: Sequence[AnchorLevel],
    padded_to: int = 1,
    margin: float = -1,
) -> np.ndarray:
    """Return the largest IoU of each box with an anchor of its image.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in network pixels.
        heights, widths: (N,) size of the image that each box lies in, in network pixels.
        levels: the anchors.
        padded_to: an image is padded to multiples of this many pixels (FPN.COARSEST_STRIDE), and
            the padding has anchors, too.
        margin: anchors that exceed the image without padding by more than this many pixels do not
            count (TRAIN.RPN_STRADDLE_THRESH); below 0 all anchors count.

    Returns:
        (N,) float32 in [0, 1]; 0 for a box that no anchor touches.
    """
    best = np.zeros(len(boxes), dtype=np.float32)
    for start in range(0, len(boxes), _CHUNK):
        part = slice(start, start + _CHUNK)
        x1, y1, x2, y2 = np.asarray(boxes[part], dtype=np.float32).T
        areas = (x2 - x1 + 1) * (y2 - y1 + 1)
        for level in levels:
            cells_x = _num_cells(widths[part], padded_to, level.stride)
            cells_y = _num_cells(heights[part], padded_to, level.stride)
            for left, top, right, bottom in level.cell:
                shared = _overlap(
                    x1, x2, left, right, level.stride, cells_x, widths[part], margin
                ) * _overlap(y1, y2, top, bottom, level.stride, cells_y, heights[part], margin)
                area = (right - left + 1) * (bottom - top + 1)
                np.maximum(best[part], shared / (areas + area - shared), out=best[part])
    return best


def _num_cells(lengths: np.ndarray, padded_to: int, stride: float) -> np.ndarray:
    padded = -(-np.asarray(lengths, dtype=np.float32) // padded_to) * padded_to
    return -(-padded // stride)


def _overlap(
    first: np.ndarray,
    last: np.ndarray,
    anchor_first: float,
    anchor_last: float,
    stride: float,
    num_cells: np.ndarray,
    lengths: np.ndarray,
    margin: float,
) -> np.ndarray:
    """Return how many pixels boxes and the nearest one of their grid's intervals share.

    Args:
        first, last: (N,) first and last pixel of the boxes in one direction.
        anchor_first, anchor_last: the same of the anchor at the origin.
        stride: pixels between neighbouring anchors.
        num_cells: (N,) number of anchors in this direction.
        lengths: (N,) length of the image in this direction.
        margin: as of :func:`best_anchor_overlaps`.
    """
    lowest: np.ndarray | float = 0.0
    highest = num_cells - 1
    if margin >= 0:
        lowest = max(0.0, np.ceil((-margin - anchor_first) / stride))
        highest = np.minimum(highest, np.ceil((lengths + margin - anchor_last) / stride) - 1)
    position = np.rint((first + last - np.float32(anchor_first + anchor_last)) / (2 * stride))
    shift = (np.maximum(np.minimum(position, highest), lowest) * stride).astype(np.float32)
    shared = np.minimum(last, shift + np.float32(anchor_last))
    shared -= np.maximum(first, shift + np.float32(anchor_first))
    shared += 1
    np.maximum(shared, 0, out=shared)
    # With a margin, a small image may have no position that counts.
    return np.where(highest >= lowest, shared, 0) if margin >= 0 else shared
