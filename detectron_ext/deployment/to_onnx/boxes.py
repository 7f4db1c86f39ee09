"""Arithmetic of boxes inside an ONNX graph: the counterpart of `detectron_ext.geometry.boxes`.

Boxes are (..., 4) float32 in pixels. A box of Detectron ends at its last pixel (x2, y2), so its
width is x2 - x1 + 1. ``plus_one`` is this 1; it is 0 for boxes whose corners are edges.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.deployment.to_onnx.graph import Graph, Value

_UNLIMITED = 2**31 - 1  # boxes of a class


def sides(boxes: Value, plus_one: float = 1.0) -> tuple[Value, Value]:
    """Return widths and heights, each (...,)."""
    x1, y1, x2, y2 = (boxes.column(index) for index in range(4))
    return x2 - x1 + plus_one, y2 - y1 + plus_one


def decode(
    graph: Graph,
    boxes: Value,
    deltas: Value,
    weights: Sequence[float],
    max_log_scale: float,
    plus_one: float = 1.0,
) -> Value:
    """Move boxes by their deltas (R-CNN, appendix C).

    Args:
        graph: gets the nodes.
        boxes: (..., 4).
        deltas: (..., 4) dx, dy, dw, dh; both shapes are broadcast.
        weights: factors that the deltas were multiplied with.
        max_log_scale: dw and dh are limited to this.
        plus_one: 1 if corners are pixels, 0 if they are edges.
    """
    low, high = [], []
    for axis, size in enumerate(sides(boxes, plus_one)):
        shift, growth = (deltas.column(index) / float(weights[index]) for index in (axis, axis + 2))
        center = boxes.column(axis) + size * 0.5 + shift * size
        half = size * 0.5 * growth.minimum(float(max_log_scale)).apply("Exp")
        low.append(center - half)
        high.append(center + half - plus_one)
    return graph.stack([*low, *high], -1, "decoded")


def to_image_pixels(graph: Graph, boxes: Value, scale: Value, config: Settings) -> Value:
    """Divide network pixels by the scale, a scalar; see `geometry.boxes.to_image_pixels`."""
    if config.LIBRA.BOX_CONVENTION == "detectron":
        return boxes / scale
    edge = graph.floats(0, 0, 1, 1)
    return (boxes + edge) / scale - edge


def clip_detections(
    graph: Graph, boxes: Value, height: Value, width: Value, config: Settings
) -> Value:
    """Clip boxes to an image; see `geometry.boxes.clip_detections`."""
    last = [width - 1.0, height - 1.0]
    if config.LIBRA.BOX_CONVENTION == "detectron":
        lowest, highest = graph.floats(0, 0, 0, 0), [*last, *last]
    else:
        lowest, highest = graph.floats(0, 0, -1, -1), [width, height, *last]
    return boxes.maximum(lowest).minimum(graph.stack(highest, 0, "limits"))


def suppress(
    graph: Graph, boxes: Value, scores: Value, overlap: float, lowest: float, most: int = 0
) -> Value:
    """Apply non-maximum suppression to each class.

    Args:
        graph: gets the node.
        boxes: (batch, K, 4), corners are pixels.
        scores: (batch, classes, K).
        overlap: intersection over union, above which the worse box is dropped.
        lowest: boxes with this score or a lower one are left out.
        most: the largest number of boxes of a class; 0 or less for all.

    Returns:
        (S, 3) int64 rows batch, class, box.
    """
    corners = [boxes.column(index) for index in (1, 0, 3, 2)]
    corners[2:] = [corner + 1.0 for corner in corners[2:]]  # from pixels to edges
    inputs = [
        graph.stack(corners, -1, "corners"),
        scores,
        graph.integers(most if most > 0 else _UNLIMITED),
        graph.floats(overlap),
        graph.floats(lowest),
    ]
    return graph.add("NonMaxSuppression", inputs, "kept", dtype=np.int64)
