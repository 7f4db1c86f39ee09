"""Axis-aligned boxes as arrays.

A box is (x1, y1, x2, y2) in pixels, and the pixel (x2, y2) belongs to it: the width is
``x2 - x1 + 1``. This is Detectron's convention; published RetinaNet weights rely on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def widths_heights(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths and the heights, each (N,), of boxes (N, 4)."""
    return boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other box.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        others: (M, 4) float32; the shorter list (ground truth), for speed.

    Returns:
        (N, M) float32 in [0, 1]; NaN for two boxes that both have no area.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    others = np.asarray(others, dtype=np.float32).reshape(-1, 4)
    overlaps = np.empty((len(others), len(boxes)), dtype=np.float32)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    # One pass for each ground-truth box keeps the temporary arrays in the processor's cache. An
    # (N, M, 4) broadcast of 200,000 anchors would not fit.
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
        with np.errstate(invalid="ignore"):
            np.divide(width, areas + (a2 - a1 + 1) * (b2 - b1 + 1) - width, out=row)
    return overlaps.T


def encode(
    boxes: np.ndarray, targets: np.ndarray, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return the regression deltas that move each box onto its target (R-CNN, appendix C).

    Args:
        boxes: (N, 4) float, anchors or proposals x1 y1 x2 y2 in pixels.
        targets: (N, 4) float, the ground-truth box of each row.
        weights: factors for dx, dy, dw, dh (MODEL.BBOX_REG_WEIGHTS).

    Returns:
        (N, 4) float32 dx, dy, dw, dh: dx and dy relative to the size of the box, dw and dh the
        logarithms of size ratios.
    """
    width, height = widths_heights(boxes)
    target_width, target_height = widths_heights(targets)
    # The centre of a box is x1 + 0.5 * width, for the box and for its target.
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
        boxes: (N, 4) float, x1 y1 x2 y2 in pixels.
        deltas: (N, 4) float, dx dy dw dh.
        weights: factors that the deltas were multiplied with (MODEL.BBOX_REG_WEIGHTS).
        max_log_scale: dw and dh are limited to this value (BBOX_XFORM_CLIP), so that the size of a
            box cannot overflow.

    Returns:
        (N, 4) float32 boxes. A box is four NaN if one of its deltas is NaN or infinite; clipping
        keeps NaN. Finite deltas may be so large that coordinates overflow to infinity, which
        clipping moves to the border of the image.
    """
    width, height = widths_heights(boxes)
    deltas = np.asarray(deltas, np.float32)
    dx, dy, dw, dh = (deltas / np.asarray(weights, np.float32)).T
    deltas_are_finite = np.isfinite(deltas).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        center_x = boxes[:, 0] + 0.5 * width + dx * width
        center_y = boxes[:, 1] + 0.5 * height + dy * height
        half_width = 0.5 * width * np.exp(np.minimum(dw, max_log_scale))
        half_height = 0.5 * height * np.exp(np.minimum(dh, max_log_scale))
        moved = np.stack(
            (
                center_x - half_width,
                center_y - half_height,
                center_x + half_width - 1,
                center_y + half_height - 1,
            ),
            axis=1,
        ).astype(np.float32)
    moved[~deltas_are_finite] = np.nan
    return moved


def to_image_pixels(boxes: np.ndarray, scale: float, config: Settings) -> np.ndarray:
    """Scale boxes (N, 4) from network pixels to pixels of the image.

    Detectron divides the coordinates of the first and the last pixel. mmdetection
    (LIBRA.BOX_CONVENTION mmdet) divides those of the edges; the right and bottom edges lie one
    pixel after the last pixel.

    Args:
        boxes: (N, 4) float32 in network pixels.
        scale: network pixels per image pixel.
        config: a merged configuration.
    """
    if config.LIBRA.BOX_CONVENTION == "detectron":
        return boxes / np.float32(scale)
    edge = np.array([0, 0, 1, 1], dtype=np.float32)
    return (boxes + edge) / np.float32(scale) - edge


def clip_to_image(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes (N, 4) with every corner moved inside an image of the given size."""
    limits = np.array([width - 1, height - 1, width - 1, height - 1], dtype=boxes.dtype)
    # np.clip takes twice as long for the few boxes of an image.
    return np.minimum(np.maximum(boxes, 0), limits)


def clip_to_images(boxes: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return boxes (N, 4), each clipped to an image of its own height and width (N,)."""
    limits = np.stack((widths - 1, heights - 1, widths - 1, heights - 1), axis=1)
    return np.minimum(np.maximum(boxes, 0), limits.astype(boxes.dtype))


def clip_detections(boxes: np.ndarray, height: int, width: int, config: Settings) -> np.ndarray:
    """Clip detected boxes (N, 4) to the image, by the rule of LIBRA.BOX_CONVENTION.

    Detectron moves a box that lies outside to the outermost pixels. mmdetection moves its edges to
    the border of the image, so that no area is left; see :func:`has_area`.

    Args:
        boxes: (N, 4) float in pixels of the image; NaN stays NaN.
        height, width: size of the image in pixels.
        config: a merged configuration.
    """
    if config.LIBRA.BOX_CONVENTION == "detectron":
        return clip_to_image(boxes, height, width)
    lowest = np.array([0, 0, -1, -1], dtype=boxes.dtype)
    highest = np.array([width, height, width - 1, height - 1], dtype=boxes.dtype)
    return np.clip(boxes, lowest, highest)


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Return whether the width and the height of boxes (N, 4) are above 0; bool (N,)."""
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
    """Convert COCO's x, y, width, height (N, 4) to float32 corners; sizes below 1 count as 1."""
    x, y, width, height = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    return np.stack(
        (x, y, x + np.maximum(0, width - 1), y + np.maximum(0, height - 1)), axis=1
    ).astype(np.float32)
