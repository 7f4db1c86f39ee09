"""Softmax over groups of channels."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.python_operators.operator import PythonOperator, require, require_map


def split_groups(x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return x (N, A * K, H, W) as (N, A, K, H, W), K = num_classes."""
    n, channels, height, width = x.shape
    return x.reshape(n, channels // num_classes, num_classes, height, width)


def group_softmax(x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the softmax over each run of `num_classes` channels of x (N, A * K, H, W)."""
    groups = split_groups(x, num_classes)
    exponentials = np.exp(groups - groups.max(axis=2, keepdims=True))
    return (exponentials / exponentials.sum(axis=2, keepdims=True)).reshape(x.shape)


def _forward(inputs, *, num_classes) -> list[np.ndarray]:
    (x,) = inputs
    require_map("GroupSpatialSoftmax", "x", x)
    require(
        x.shape[1] % num_classes == 0,
        "GroupSpatialSoftmax",
        f"x {x.shape} must have a multiple of {num_classes} channels",
    )
    return [group_softmax(x, num_classes)]


def _backward(arrays, *, num_classes) -> list[np.ndarray]:
    _, y, d_y = arrays
    p, d_p = split_groups(y, num_classes), split_groups(d_y, num_classes)
    # Relative to that of the likeliest class: where p is nearly 1, d_p and the sum would cancel.
    likeliest = p.argmax(axis=2)[:, :, np.newaxis]
    d_p = d_p - np.take_along_axis(d_p, likeliest, axis=2)
    return [(p * (d_p - (p * d_p).sum(axis=2, keepdims=True))).reshape(y.shape)]


GROUP_SPATIAL_SOFTMAX = PythonOperator(_forward, _backward)
