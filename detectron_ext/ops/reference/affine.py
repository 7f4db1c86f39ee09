"""A scale and a bias for every channel, with limits."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = ["affine_channel_clip", "affine_channel_clip_gradient"]


def affine_channel_clip(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, min: float, max: float
) -> np.ndarray:
    """Return scale * x + bias, with results below min raised to min and above max lowered to max.

    Args:
        x: (N, C, ...).
        scale: (C,).
        bias: (C,).
        min: the lowest result.
        max: the highest result; not below min.
    """
    return np.clip(_per_channel(scale, x) * float64(x) + _per_channel(bias, x), min, max)


def affine_channel_clip_gradient(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    d_y: np.ndarray,
    *,
    min: float,
    max: float,
) -> np.ndarray:
    """Return the gradient of `affine_channel_clip` with respect to x.

    It is 0 where the result is min or max.

    Args:
        x: (N, C, ...).
        scale: (C,).
        bias: (C,).
        d_y: gradient of the result, shaped as x.
        min: the lowest result.
        max: the highest result.
    """
    line = _per_channel(scale, x) * float64(x) + _per_channel(bias, x)
    return np.where((line > min) & (line < max), _per_channel(scale, x) * float64(d_y), 0)


def _per_channel(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    return float64(vector).reshape(-1, *[1] * (np.ndim(x) - 2))
