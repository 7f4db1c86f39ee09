"""GroupSpatialSoftmax: softmax over groups of channels."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_integer
from detectron_ext.ops.input_checks import require, require_map
from detectron_ext.ops.reference import softmax as reference
from detectron_ext.ops.table import DETECTRON, Operator, PythonOperator, reference_of, register


def group_spatial_softmax(
    net: core.Net, x: Blob, output: Blob, num_classes: int
) -> core.BlobReference:
    """Add Detectron's GroupSpatialSoftmax: one softmax for each anchor at each position.

    Args:
        net: the net to add to.
        x: logits, (N, A * num_classes, H, W) float32.
        output: name of the probabilities, shaped as x.
        num_classes: channels in a group, at least 1.

    Returns:
        The probabilities.

    Raises:
        ValueError: `num_classes` is not an integer of at least 1.
    """
    require_integer("num_classes", num_classes, 1)
    return add_operator(net, "GroupSpatialSoftmax", [x], [output], num_classes=num_classes)


def split_groups(x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return x (N, A * K, H, W) as (N, A, K, H, W), where K is num_classes."""
    n, channels, height, width = x.shape
    return x.reshape(n, channels // num_classes, num_classes, height, width)


def group_softmax(x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the softmax over each run of `num_classes` channels of x (N, A * K, H, W)."""
    groups = split_groups(x, num_classes)
    exponentials = np.exp(groups - groups.max(axis=2, keepdims=True))
    return (exponentials / exponentials.sum(axis=2, keepdims=True)).reshape(x.shape)


def _forward(inputs: Sequence[np.ndarray], *, num_classes: int) -> list[np.ndarray]:
    (x,) = inputs
    require_map("GroupSpatialSoftmax", "x", x)
    require(
        x.shape[1] % num_classes == 0,
        "GroupSpatialSoftmax",
        f"x {x.shape} must have a multiple of {num_classes} channels",
    )
    return [group_softmax(x, num_classes)]


def _backward(arrays: Sequence[np.ndarray], *, num_classes: int) -> list[np.ndarray]:
    _, y, d_y = arrays
    p, d_p = split_groups(y, num_classes), split_groups(d_y, num_classes)
    # Take every d_p relative to the d_p of the most probable class. Otherwise d_p and the sum would
    # cancel if its p is nearly 1.
    likeliest = p.argmax(axis=2)[:, :, np.newaxis]
    d_p = d_p - np.take_along_axis(d_p, likeliest, axis=2)
    return [(p * (d_p - (p * d_p).sum(axis=2, keepdims=True))).reshape(y.shape)]


def _reference_gradient(
    inputs: Sequence[np.ndarray], d_outputs: Sequence[np.ndarray], **arguments: Any
) -> list[np.ndarray]:
    y = reference.group_spatial_softmax(*inputs, **arguments)
    return [reference.group_spatial_softmax_gradient(y, d_outputs[0], **arguments)]


register(
    Operator(
        "GroupSpatialSoftmax",
        group_spatial_softmax,
        ("x",),
        ("output",),
        reference_of(reference.group_spatial_softmax),
        _reference_gradient,
        DETECTRON,
        python=PythonOperator(_forward, _backward),
    )
)
