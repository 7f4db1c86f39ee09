"""Resizing of maps, and the balanced pyramid built from it (Libra R-CNN, section 3.2).

Maps are (N, C, H, W). Adaptive pooling and nearest resizing follow PyTorch's index rules in exact
integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = [
    "adaptive_max_pool",
    "adaptive_max_pool_gradient",
    "balanced_pyramid_gather",
    "balanced_pyramid_gather_gradient",
    "balanced_pyramid_scatter",
    "balanced_pyramid_scatter_gradient",
    "nearest_resize",
    "nearest_resize_gradient",
    "upsample_nearest",
    "upsample_nearest_gradient",
]


def pool_window(i: int, size: int, pooled: int) -> slice:
    """Return the window of output i when `size` elements are adaptively pooled to `pooled`."""
    return slice(i * size // pooled, -(-(i + 1) * size // pooled))


def nearest_source(size: int, resized: int) -> np.ndarray:
    """Return, for each of `resized` outputs, the nearest of `size` inputs."""
    return np.arange(resized) * size // resized


def adaptive_max_pool(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the maximum of x over height x width windows that cover it."""
    x = float64(x)
    y = np.empty(x.shape[:2] + (height, width))
    for i, j in np.ndindex(height, width):
        rows, columns = pool_window(i, x.shape[2], height), pool_window(j, x.shape[3], width)
        y[:, :, i, j] = x[:, :, rows, columns].max(axis=(2, 3))
    return y


def adaptive_max_pool_gradient(x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to x: a window's gradient goes to its first maximum.

    The elements of a window are ordered row by row.
    """
    x, d_y = float64(x), float64(d_y)
    d_x = np.zeros_like(x)
    n, c = np.ogrid[: x.shape[0], : x.shape[1]]
    for i, j in np.ndindex(d_y.shape[2:]):
        rows = pool_window(i, x.shape[2], d_y.shape[2])
        columns = pool_window(j, x.shape[3], d_y.shape[3])
        window = x[:, :, rows, columns]
        pixels = window.shape[2] * window.shape[3]
        first = window.reshape(window.shape[:2] + (pixels,)).argmax(axis=2)
        row, column = np.unravel_index(first, window.shape[2:])
        d_x[n, c, rows.start + row, columns.start + column] += d_y[:, :, i, j]
    return d_x


def nearest_resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return x with output pixel (i, j) taken from (floor(i H / height), floor(j W / width))."""
    x = float64(x)
    rows, columns = nearest_source(x.shape[2], height), nearest_source(x.shape[3], width)
    return x[:, :, rows[:, np.newaxis], columns]


def nearest_resize_gradient(x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to x: the sum over all output pixels that repeat a pixel."""
    x, d_y = float64(x), float64(d_y)
    d_x = np.zeros_like(x)
    rows = nearest_source(x.shape[2], d_y.shape[2])
    columns = nearest_source(x.shape[3], d_y.shape[3])
    for i, j in np.ndindex(d_y.shape[2:]):
        d_x[:, :, rows[i], columns[j]] += d_y[:, :, i, j]
    return d_x


def upsample_nearest(x: np.ndarray, *, scale: int = 2) -> np.ndarray:
    """Return x with every pixel of its last two axes made a square of scale x scale."""
    return float64(x).repeat(scale, axis=-2).repeat(scale, axis=-1)


def upsample_nearest_gradient(d_y: np.ndarray, *, scale: int = 2) -> np.ndarray:
    """Return the gradient with respect to x: the sum over each square."""
    d_y = float64(d_y)
    *outer, height, width = d_y.shape
    squares = d_y.reshape(*outer, height // scale, scale, width // scale, scale)
    return squares.sum(axis=(-3, -1))


def balanced_pyramid_gather(levels: Sequence[np.ndarray], *, refine_level: int) -> np.ndarray:
    """Return the mean of the levels at the size of level r = refine_level.

    Levels before r, the finer ones, are adaptive-max-pooled. Levels after it are nearest-resized.
    """
    size = np.shape(levels[refine_level])[2:]
    resized = [
        adaptive_max_pool(level, *size) if i < refine_level else nearest_resize(level, *size)
        for i, level in enumerate(levels)
    ]
    return np.mean(resized, axis=0)


def balanced_pyramid_gather_gradient(
    levels: Sequence[np.ndarray], d_output: np.ndarray, *, refine_level: int
) -> list[np.ndarray]:
    """Return the gradient of `balanced_pyramid_gather` with respect to each level."""
    share = float64(d_output) / len(levels)
    return [
        adaptive_max_pool_gradient(level, share)
        if i < refine_level
        else nearest_resize_gradient(level, share)
        for i, level in enumerate(levels)
    ]


def balanced_pyramid_scatter(
    balanced: np.ndarray, levels: Sequence[np.ndarray], *, refine_level: int
) -> list[np.ndarray]:
    """Return each level plus `balanced`, brought to the level's size.

    `balanced` is nearest-resized for levels before r = refine_level, the finer ones, and
    adaptive-max-pooled for the others.
    """
    return [
        float64(level)
        + (
            nearest_resize(balanced, *np.shape(level)[2:])
            if i < refine_level
            else adaptive_max_pool(balanced, *np.shape(level)[2:])
        )
        for i, level in enumerate(levels)
    ]


def balanced_pyramid_scatter_gradient(
    balanced: np.ndarray, d_outputs: Sequence[np.ndarray], *, refine_level: int
) -> list[np.ndarray]:
    """Return the gradients of `balanced_pyramid_scatter`: of `balanced`, then of each level."""
    d_balanced = [
        nearest_resize_gradient(balanced, d_output)
        if i < refine_level
        else adaptive_max_pool_gradient(balanced, d_output)
        for i, d_output in enumerate(d_outputs)
    ]
    return [np.sum(d_balanced, axis=0), *(float64(d_output) for d_output in d_outputs)]
