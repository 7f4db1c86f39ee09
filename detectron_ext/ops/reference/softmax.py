"""Softmax over groups of channels (Detectron's GroupSpatialSoftmax)."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = [
    "group_spatial_softmax",
    "group_spatial_softmax_gradient",
]


def group_spatial_softmax(x: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Return the softmax over each K = `num_classes` channels of x (N, A * K, H, W)."""
    x = float64(x)
    groups = _groups(x, num_classes)
    exponentials = np.exp(groups - groups.max(axis=2, keepdims=True))
    return (exponentials / exponentials.sum(axis=2, keepdims=True)).reshape(x.shape)


def group_spatial_softmax_gradient(
    y: np.ndarray, d_y: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """Return the gradient with respect to x, given the output y: y * (d_y - sum(y * d_y))."""
    y, d_y = float64(y), float64(d_y)
    p, d_p = _groups(y, num_classes), _groups(d_y, num_classes)
    return (p * (d_p - (p * d_p).sum(axis=2, keepdims=True))).reshape(y.shape)


def _groups(x: np.ndarray, num_classes: int) -> np.ndarray:
    """Return x as (N, A, num_classes, H, W)."""
    n, channels, height, width = x.shape
    return x.reshape(n, channels // num_classes, num_classes, height, width)
