"""Numbers of single anchors, at selected places of maps. None of them has a gradient.

The weights of anchors that depend on predictions are made with these operators
(`modeling.anchor_weights`). The Python operators evaluate the float64 definitions, since the places
are few.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_integer, require_positive
from detectron_ext.ops.input_checks import require, require_map
from detectron_ext.ops.loss_arguments import focal_arguments
from detectron_ext.ops.reference import selected_anchors as reference
from detectron_ext.ops.table import (
    FLOAT,
    INTEGER,
    LIBRA,
    NONE,
    Operator,
    PythonOperator,
    reference_of,
    register,
)


def select_box_iou(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    locations: Blob,
    output: Blob,
    *,
    max_log_scale: float = math.log(1000 / 16),
) -> core.BlobReference:
    """Add SelectBoxIou: the IoU of predicted boxes with their targets at M places of a map.

    Both boxes are deltas (dx, dy, dw, dh) of the same anchor, which the IoU does not depend on.

    Args:
        net: the net to add to.
        y_hat: predicted deltas, (N, A * 4, H, W) float32.
        y: true deltas, (M, 4) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3.
        output: name of the IoUs, (M,), from 0 to 1; NaN if a delta is NaN. They have no gradient.
        max_log_scale: largest predicted dw and dh, above 0; larger ones are limited to it, as when
            boxes are decoded (BBOX_XFORM_CLIP).

    Returns:
        The IoUs.

    Raises:
        ValueError: an argument is out of its range.
    """
    require_positive(max_log_scale=max_log_scale)
    inputs = [y_hat, y, locations]
    return add_operator(net, "SelectBoxIou", inputs, [output], max_log_scale=float(max_log_scale))


def select_sigmoid_focal_loss(
    net: core.Net,
    logits: Blob,
    labels: Blob,
    locations: Blob,
    output: Blob,
    probability: Blob,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    num_classes: int = 80,
    channels: int = 4,
) -> tuple[core.BlobReference, core.BlobReference]:
    """Add SelectSigmoidFocalLoss: the focal loss of single anchors, and the score of their class.

    The loss of an anchor is the sum over classes of the terms of `sigmoid_focal_loss`, without the
    division by fg_num. It has no gradient.

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32.
        labels: (N, A, H, W) int32, as in `sigmoid_focal_loss`.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects anchor c // channels.
        output: name of the losses, (M,); 0 for an anchor whose label is -1.
        probability: name of the probabilities of the classes that are the labels, (M,); 0 if a
            label is no class.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1; the weight of the background is 1 - alpha.
        num_classes: classes of an anchor without the background, at least 1.
        channels: channels that an anchor has in the column c, a multiple of 4.

    Returns:
        The losses and the probabilities.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, 1.0, num_classes, 1)
    del arguments["scale"]
    return add_operator(
        net, "SelectSigmoidFocalLoss", [logits, labels, locations], [output, probability],
        **arguments, channels=_checked_channels(channels),
    )  # fmt: skip


def scale_anchors(
    net: core.Net,
    weights: Blob,
    factors: Blob,
    locations: Blob,
    output: Blob,
    *,
    channels: int = 4,
) -> core.BlobReference:
    """Add ScaleAnchors: a map of weights, with the weights at M places multiplied by factors.

    Args:
        net: the net to add to.
        weights: (N, A, H, W) float32.
        factors: (M,) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects anchor c // channels. If several
            rows select an anchor, all of their factors count.
        output: name of the result, shaped as weights. It has no gradient.
        channels: channels that an anchor has in the column c, a multiple of 4.

    Returns:
        The scaled weights.

    Raises:
        ValueError: an argument is out of its range.
    """
    inputs = [weights, factors, locations]
    channels = _checked_channels(channels)
    return add_operator(net, "ScaleAnchors", inputs, [output], channels=channels)


def _checked_channels(channels: int) -> int:
    require_integer("channels", channels, 4)
    if channels % 4:
        raise ValueError(f"channels must be a multiple of 4, not {channels!r}")
    return int(channels)


def _check_places(
    operator: str, locations: np.ndarray, limits: tuple[int, ...], name: str, shape: tuple
) -> np.ndarray:
    """Return the locations as (M, 4); raise ValueError if one is not below the limits."""
    if locations.size == 0:
        return np.zeros((0, 4), np.float32)
    require(
        locations.ndim == 2 and locations.shape[1] == 4,
        operator,
        f"locations must be (M, 4), not {locations.shape}",
    )
    inside = (locations > -1) & (locations < np.asarray(limits))
    require(
        bool(inside.all()),
        operator,
        f"locations {locations.shape} has a row outside {name} {shape}",
    )
    return locations


def _box_iou(inputs: Sequence[np.ndarray], *, max_log_scale: float) -> list[np.ndarray]:
    name = "SelectBoxIou"
    y_hat, y, locations = inputs
    require_map(name, "y_hat", y_hat)
    require(
        y.size == locations.size == 0 or (y.ndim == 2 and y.shape[1:] == (4,)),
        name,
        f"y must be (M, 4), not {y.shape}",
    )
    n, channels, height, width = y_hat.shape
    limits = (n, channels - 3, height, width)
    places = _check_places(name, locations, limits, "y_hat", y_hat.shape)
    require(
        y.size == places.size,
        name,
        f"y {y.shape} must have as many rows as locations {locations.shape}",
    )
    return [reference.select_box_iou(y_hat, y, places, max_log_scale=max_log_scale)]


def _focal_loss(
    inputs: Sequence[np.ndarray], *, gamma: float, alpha: float, num_classes: int, channels: int
) -> list[np.ndarray]:
    name = "SelectSigmoidFocalLoss"
    logits, labels, locations = inputs
    require_map(name, "logits", logits)
    n, anchors, height, width = labels.shape if labels.ndim == 4 else (-1,) * 4
    require(
        logits.shape == (n, anchors * num_classes, height, width),
        name,
        f"labels {labels.shape} must be (N, A, H, W) for logits {logits.shape}, "
        f"(N, A * {num_classes}, H, W)",
    )
    limits = (n, anchors * channels, height, width)
    places = _check_places(name, locations, limits, "labels", labels.shape)
    return list(
        reference.select_sigmoid_focal_loss(
            logits, labels, places,
            gamma=gamma, alpha=alpha, num_classes=num_classes, channels=channels,
        )
    )  # fmt: skip


def _scaled(inputs: Sequence[np.ndarray], *, channels: int) -> list[np.ndarray]:
    name = "ScaleAnchors"
    weights, factors, locations = inputs
    require_map(name, "weights", weights)
    n, anchors, height, width = weights.shape
    limits = (n, anchors * channels, height, width)
    places = _check_places(name, locations, limits, "weights", weights.shape)
    require(
        factors.size == len(places),
        name,
        f"factors {factors.shape} must be one number for each row of locations {locations.shape}",
    )
    return [reference.scale_anchors(weights, factors, places, channels=channels)]


def _no_gradient(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
    return []


def _register(
    name: str,
    front_end: Callable[..., Any],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    definition: Callable[..., Any],
    forward: Callable[..., list[np.ndarray]],
    input_types: Sequence[tuple[str, ...]] = (FLOAT,),
) -> None:
    register(
        Operator(
            name, front_end, inputs, outputs,
            reference_of(definition), _no_gradient_of_definition, LIBRA,
            python=PythonOperator(forward, _no_gradient, input_types=input_types),
            differentiable_inputs=NONE,
            differentiable_outputs=NONE,
        )
    )  # fmt: skip


def _no_gradient_of_definition(
    inputs: Sequence[np.ndarray], d_outputs: Sequence[np.ndarray], **arguments: Any
) -> list[np.ndarray]:
    return []


_register(
    "SelectBoxIou", select_box_iou, ("y_hat", "y", "locations"), ("output",),
    reference.select_box_iou, _box_iou,
)  # fmt: skip
_register(
    "SelectSigmoidFocalLoss", select_sigmoid_focal_loss, ("logits", "labels", "locations"),
    ("output", "probability"), reference.select_sigmoid_focal_loss, _focal_loss,
    input_types=(FLOAT, INTEGER, FLOAT),
)  # fmt: skip
_register(
    "ScaleAnchors", scale_anchors, ("weights", "factors", "locations"), ("output",),
    reference.scale_anchors, _scaled,
)  # fmt: skip
