"""Adaptive training sample selection (ATSS; Zhang et al., CVPR 2020, algorithm 1).

Each object has its own IoU threshold. Its candidates are the anchors at the positions of each level
that are nearest to its centre. The threshold is the mean of their IoUs plus the standard deviation.
An object that one level fits well gets a high threshold, and one that no level fits a low one.

The paper has one anchor at each position. With A anchors at a position, as in RetinaNet, all of
them are candidates: k positions give k * A candidates on each level.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

import numpy as np

from detectron_ext.geometry.boxes import widths_heights

# Pairs of an object and a candidate that are computed at once. It limits memory to some 10 MB.
_PAIRS_AT_ONCE = 100_000


class AdaptivePositives(NamedTuple):
    """The positives of one image.

    Attributes:
        anchors: (P,) int64, indices of anchors, each once, in ascending order.
        objects: (P,) int64, the object of each.
        overlaps: (P,) float64, its IoU with that object.
    """

    anchors: np.ndarray
    objects: np.ndarray
    overlaps: np.ndarray


def adaptive_positives(
    anchors: np.ndarray,
    level_shapes: Sequence[tuple[int, int, int]],
    boxes: np.ndarray,
    num_positions: int,
) -> AdaptivePositives:
    """Choose the positives of an image.

    For each object:

    1. Candidates are all anchors at the ``num_positions`` positions of each level whose centres are
       nearest to the centre of the object, or at all positions of a level that has fewer. Of
       positions at the same distance the first ones count, row by row.
    2. The threshold is the mean of the candidates' IoUs with the object plus their standard
       deviation. The deviation is that of a sample (n - 1), as in the authors' code; 0 for one
       candidate.
    3. Candidates with an IoU of at least the threshold and above 0, whose centre lies inside the
       object, not on its edge, are its positives. An object may have none.

    An anchor that is a positive of several objects belongs to the one with which it has the highest
    IoU, the first of equals.

    Args:
        anchors: (K, 4) float32 rows (x1, y1, x2, y2) in pixels: those of each level, ordered by
            anchor, row and column. The A anchors of a position have the same centre, and the
            centres of a level form a grid.
        level_shapes: (A, H, W) of each level. The products add up to K.
        boxes: (G, 4) float32 objects. G may be 0.
        num_positions: number k of positions of a level, at least 1; 9 in the paper.

    Returns:
        The positives. Time and memory grow with G * k^2 and G * k * A, not with G * K.
    """
    parts = [
        _positives_of(boxes[start:stop], start, anchors, level_shapes, num_positions)
        for start, stop in _batches(len(boxes), level_shapes, num_positions)
    ]
    chosen, objects, overlaps = (
        (np.concatenate(column) for column in zip(*parts))
        if parts
        else (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    )
    # The last key is the first to sort by. The first row of each anchor is its best object.
    order = np.lexsort((objects, -overlaps, chosen))
    chosen, objects, overlaps = chosen[order], objects[order], overlaps[order]
    first = np.ones(len(chosen), dtype=bool)
    first[1:] = chosen[1:] != chosen[:-1]
    return AdaptivePositives(chosen[first], objects[first], overlaps[first])


def _batches(
    num_objects: int, level_shapes: Sequence[tuple[int, int, int]], num_positions: int
) -> Iterator[tuple[int, int]]:
    """Yield begin and end of parts of the objects that need little memory."""
    pairs = sum(a * min(num_positions, h * w) for a, h, w in level_shapes)
    windows = max(min(num_positions, h) * min(num_positions, w) for _, h, w in level_shapes)
    step = max(1, _PAIRS_AT_ONCE // max(1, pairs, windows))
    for start in range(0, num_objects, step):
        yield start, min(start + step, num_objects)


def _positives_of(
    boxes: np.ndarray,
    first_object: int,
    anchors: np.ndarray,
    level_shapes: Sequence[tuple[int, int, int]],
    num_positions: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positives of some objects: anchors, objects and IoUs, before ties are decided."""
    exact = boxes.astype(np.float64)
    candidates = []
    start = 0
    for shape in level_shapes:
        size = int(np.prod(shape))
        level = anchors[start : start + size].reshape(*shape, 4)
        candidates.append(start + _nearest_anchors(level, exact, num_positions))
        start += size
    indices = np.concatenate(candidates, axis=1)
    near = anchors[indices].astype(np.float64)
    overlaps = _paired_iou(near, exact[:, np.newaxis])
    mean = overlaps.mean(axis=1, keepdims=True)
    deviation = np.zeros_like(mean)
    if overlaps.shape[1] > 1:
        deviation = overlaps.std(axis=1, ddof=1, keepdims=True)
    positive = (overlaps >= mean + deviation) & (overlaps > 0) & _centre_inside(near, exact)
    objects, columns = np.nonzero(positive)
    return indices[objects, columns], objects + first_object, overlaps[objects, columns]


def _nearest_anchors(level: np.ndarray, boxes: np.ndarray, num_positions: int) -> np.ndarray:
    """Return the candidates (G, k * A) of a level's anchors (A, H, W, 4), as indices of the level.

    In each row and each column of the grid at most k positions are among the k nearest, those
    nearest to the object in it. So only the k nearest columns and rows need distances.
    """
    num_anchors, height, width = level.shape[:3]
    x, columns = _nearest_lines(_middles(level[0, 0], 0), _middles(boxes, 0), num_positions)
    y, rows = _nearest_lines(_middles(level[0, :, 0], 1), _middles(boxes, 1), num_positions)
    distances = np.square(y)[:, :, np.newaxis] + np.square(x)[:, np.newaxis]
    positions = rows[:, :, np.newaxis] * width + columns[:, np.newaxis]
    order = np.argsort(distances.reshape(len(boxes), -1), axis=1, kind="stable")[:, :num_positions]
    nearest = np.take_along_axis(positions.reshape(len(boxes), -1), order, axis=1)
    shapes = height * width * np.arange(num_anchors)
    return (shapes[:, np.newaxis] + nearest[:, np.newaxis]).reshape(len(boxes), -1)


def _middles(boxes: np.ndarray, axis: int) -> np.ndarray:
    """Return the centres of boxes (N, 4) along x (axis 0) or y (1), up to a constant."""
    return (boxes[:, axis].astype(np.float64) + boxes[:, axis + 2]) / 2


def _nearest_lines(
    lines: np.ndarray, centres: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and numbers (G, min(count, L)) of the lines (L,) nearest to centres (G,).

    The numbers ascend. Of lines at the same distance the first ones are taken.
    """
    distances = np.abs(lines - centres[:, np.newaxis])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
    nearest.sort(axis=1)
    return np.take_along_axis(distances, nearest, axis=1), nearest


def _sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width, height = widths_heights(boxes.reshape(-1, 4))
    return width.reshape(boxes.shape[:-1]), height.reshape(boxes.shape[:-1])


def _paired_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (...) of boxes (..., 4) with the boxes of the same place in ``others``."""
    (width, height), (other_width, other_height) = _sides(boxes), _sides(others)
    right = np.minimum(boxes[..., 2], others[..., 2]) - np.maximum(boxes[..., 0], others[..., 0])
    below = np.minimum(boxes[..., 3], others[..., 3]) - np.maximum(boxes[..., 1], others[..., 1])
    shared = np.maximum(0, right + 1) * np.maximum(0, below + 1)
    return shared / (width * height + other_width * other_height - shared)


def _centre_inside(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which centres of anchors (G, C, 4) lie strictly inside the box (G, 4) of their row."""
    sides = np.stack(_sides(boxes), axis=-1)[:, np.newaxis]
    centres = (boxes[:, :2] + boxes[:, 2:])[:, np.newaxis] / 2
    offset = np.abs((anchors[..., :2] + anchors[..., 2:]) / 2 - centres)
    return (offset < sides / 2).all(axis=-1)
