"""Axis-aligned boxes as arrays.

A box is (x1, y1, x2, y2) in pixels, and its last pixel belongs to it: the width is
``x2 - x1 + 1``. This is Detectron's convention; published RetinaNet weights rely on it.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np


def widths_heights(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths and the heights, each (N,), of boxes (N, 4)."""
    return boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other box.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        others: (M, 4) float32; meant to be the shorter list (ground truth).

    Returns:
        (N, M) float32 in [0, 1].
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    others = np.asarray(others, dtype=np.float32).reshape(-1, 4)
    overlaps = np.empty((len(others), len(boxes)), dtype=np.float32)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    # One pass per ground-truth box keeps the temporaries in cache; an (N, M, 4) broadcast of
    # 200,000 anchors does not.
    for row, (a1, b1, a2, b2) in zip(overlaps, others):
        width = np.minimum(x2, a2)
        width -= np.maximum(x1, a1)
        width += 1
        np.maximum(width, 0, out=width)
        height = np.minimum(y2, b2)
        height -= np.maximum(y1, b1)
        height += 1
        np.maximum(height, 0, out=height)
        width *= height
        np.divide(width, areas + (a2 - a1 + 1) * (b2 - b1 + 1) - width, out=row)
    return overlaps.T


def encode(
    boxes: np.ndarray, targets: np.ndarray, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """Regression targets that move each box onto its target (R-CNN, appendix C).

    Args:
        boxes: (N, 4) anchors or proposals.
        targets: (N, 4) ground-truth boxes, row by row.
        weights: factors for dx, dy, dw, dh (MODEL.BBOX_REG_WEIGHTS).

    Returns:
        (N, 4) float32: dx, dy relative to the box size, dw, dh as logarithms of size ratios.
    """
    width, height = widths_heights(boxes)
    target_width, target_height = widths_heights(targets)
    # Half a box is 0.5 * width from its first pixel's edge: both centres use the same rule.
    dx = (targets[:, 0] + 0.5 * target_width - boxes[:, 0] - 0.5 * width) / width
    dy = (targets[:, 1] + 0.5 * target_height - boxes[:, 1] - 0.5 * height) / height
    deltas = np.stack(
        (dx, dy, np.log(target_width / width), np.log(target_height / height)), axis=1
    )
    return (deltas * np.asarray(weights)).astype(np.float32)


def decode(
    boxes: np.ndarray,
    deltas: np.ndarray,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float = float(np.log(1000.0 / 16.0)),
) -> np.ndarray:
    """Apply regression deltas to boxes: the inverse of :func:`encode`.

    Args:
        boxes: (N, 4).
        deltas: (N, 4), dx dy dw dh.
        weights: factors the deltas were multiplied with.
        max_log_scale: dw and dh are capped here (BBOX_XFORM_CLIP), so that a wild prediction
            cannot overflow.

    Returns:
        (N, 4) float32 boxes.
    """
    width, height = widths_heights(boxes)
    dx, dy, dw, dh = (np.asarray(deltas, np.float32) / np.asarray(weights, np.float32)).T
    center_x = boxes[:, 0] + 0.5 * width + dx * width
    center_y = boxes[:, 1] + 0.5 * height + dy * height
    half_width = 0.5 * width * np.exp(np.minimum(dw, max_log_scale))
    half_height = 0.5 * height * np.exp(np.minimum(dh, max_log_scale))
    return np.stack(
        (
            center_x - half_width,
            center_y - half_height,
            center_x + half_width - 1,
            center_y + half_height - 1,
        ),
        axis=1,
    ).astype(np.float32)


def to_image_pixels(boxes: np.ndarray, scale: float, config) -> np.ndarray:
    """Bring boxes (N, 4) from network pixels to pixels of the image.

    Detectron divides the coordinates of the first and of the last pixel; mmdetection
    (LIBRA.BOX_CONVENTION) those of the edges, of which the far ones lie a pixel on.
    """
    if config.LIBRA.BOX_CONVENTION == "detectron":
        return boxes / np.float32(scale)
    edge = np.array([0, 0, 1, 1], dtype=np.float32)
    return (boxes + edge) / np.float32(scale) - edge


def clip_to_image(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes (N, 4) with every corner moved inside an image of the given size."""
    limits = np.array([width - 1, height - 1, width - 1, height - 1], dtype=boxes.dtype)
    return np.clip(boxes, 0, limits)


def clip_detections(boxes: np.ndarray, height: int, width: int, config) -> np.ndarray:
    """Clip detected boxes (N, 4) as the model's convention has it.

    Detectron moves a box outside to the outermost pixels. With mmdetection's convention
    (LIBRA.BOX_CONVENTION) its edges meet there: it has no area left, see :func:`has_area`.
    """
    if config.LIBRA.BOX_CONVENTION == "detectron":
        return clip_to_image(boxes, height, width)
    lowest = np.array([0, 0, -1, -1], dtype=boxes.dtype)
    highest = np.array([width, height, width - 1, height - 1], dtype=boxes.dtype)
    return np.clip(boxes, lowest, highest)


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Whether boxes (N, 4) are wider and higher than nothing; bool (N,)."""
    width, height = widths_heights(boxes)
    return (width > 0) & (height > 0)


def mirror(boxes: np.ndarray, width: int) -> np.ndarray:
    """Return boxes (N, 4) mirrored left to right in an image of the given width."""
    mirrored = boxes.copy()
    mirrored[:, 0] = width - boxes[:, 2] - 1
    mirrored[:, 2] = width - boxes[:, 0] - 1
    return mirrored


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Convert (N, 4) boxes to COCO's x, y, width, height."""
    width, height = widths_heights(boxes)
    return np.stack((boxes[:, 0], boxes[:, 1], width, height), axis=1)


def from_xywh(boxes: np.ndarray) -> np.ndarray:
    """Convert COCO's x, y, width, height (N, 4) to corners; sizes below 1 count as 1 pixel."""
    x, y, width, height = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    return np.stack(
        (x, y, x + np.maximum(0, width - 1), y + np.maximum(0, height - 1)), axis=1
    ).astype(np.float32)
