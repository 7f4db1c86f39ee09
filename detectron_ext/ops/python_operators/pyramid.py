"""The balanced pyramid and nearest upsampling, by index arrays instead of loops over pixels."""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple

import numpy as np

from detectron_ext.ops.python_operators.operator import (
    ALL,
    Part,
    PythonOperator,
    require,
    require_map,
    require_same_shape,
)

Size = Tuple[int, ...]


def _window_indices(size: int, pooled: int) -> np.ndarray:
    """Return the elements (pooled, K) of each window of an adaptive pooling.

    Windows shorter than the longest, K, repeat their last element, which changes neither the
    maximum nor which element is the first to have it.
    """
    outputs = np.arange(pooled)
    begin = outputs * size // pooled
    end = -(-(outputs + 1) * size // pooled)
    longest = int((end - begin).max(initial=1))
    return np.minimum(begin[:, np.newaxis] + np.arange(longest), end[:, np.newaxis] - 1)


def _flat(x: np.ndarray) -> np.ndarray:
    n, c, height, width = x.shape
    return x.reshape(n, c, height * width)


def _windows(x: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows (N, C, h, w, K) of x for a pooling to `size`, and their pixels (h, w, K).

    A pixel is given as y * W + x.
    """
    rows = _window_indices(x.shape[2], size[0])[:, np.newaxis, :, np.newaxis]
    columns = _window_indices(x.shape[3], size[1])[np.newaxis, :, np.newaxis, :]
    pixels = (rows * x.shape[3] + columns).reshape(size + (-1,))
    return np.take(_flat(x), pixels, axis=2), pixels


def _sum_into(shape: Sequence[int], pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (N, C, H, W) zeros to which each value (N, C, ...) was added at its pixel."""
    n, c, height, width = shape
    planes = np.arange(n * c).reshape(values.shape[:2] + (1,) * (values.ndim - 2))
    indices = (planes * (height * width) + pixels).ravel()
    sums = np.bincount(indices, weights=values.ravel(), minlength=n * c * height * width)
    return sums.reshape(shape).astype(np.float32)


def _adaptive_max_pool(x: np.ndarray, size: Size) -> np.ndarray:
    if x.shape[2:] == size:
        return x
    return _windows(x, size)[0].max(axis=-1)


def _adaptive_max_pool_gradient(x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
    size = d_y.shape[2:]
    if x.shape[2:] == size:
        return d_y
    windows, pixels = _windows(x, size)
    first = windows.argmax(axis=-1)
    rows, columns = np.ogrid[: size[0], : size[1]]
    return _sum_into(x.shape, pixels[rows, columns, first], d_y)


def _nearest_pixels(from_size: Size, to_size: Size) -> np.ndarray:
    """Return the source pixel (h, w), as y * W + x, of every pixel of a nearest resizing."""
    rows = np.arange(to_size[0]) * from_size[0] // to_size[0]
    columns = np.arange(to_size[1]) * from_size[1] // to_size[1]
    return rows[:, np.newaxis] * from_size[1] + columns


def _nearest_resize(x: np.ndarray, size: Size) -> np.ndarray:
    if x.shape[2:] == size:
        return x
    pixels = _nearest_pixels(x.shape[2:], size)
    return np.take(_flat(x), pixels, axis=2)


def _nearest_resize_gradient(x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
    if x.shape[2:] == d_y.shape[2:]:
        return d_y
    return _sum_into(x.shape, _nearest_pixels(x.shape[2:], d_y.shape[2:]), d_y)


def _check_levels(operator: str, levels: Sequence[np.ndarray], refine_level: int) -> None:
    require(
        0 <= refine_level < len(levels),
        operator,
        f"refine_level {refine_level} is not one of {len(levels)} levels",
    )
    for i, level in enumerate(levels):
        require_map(operator, f"level {i}", level)
        require(
            level.shape[:2] == levels[0].shape[:2],
            operator,
            f"level {i} {level.shape} must have the N and C of level 0 {levels[0].shape}",
        )
        require(min(level.shape[2:]) > 0, operator, f"level {i} {level.shape} must have pixels")


def _gather_forward(levels, *, refine_level) -> list[np.ndarray]:
    _check_levels("BalancedPyramidGather", levels, refine_level)
    size = levels[refine_level].shape[2:]
    total = np.zeros_like(levels[refine_level])
    for i, level in enumerate(levels):
        resize = _adaptive_max_pool if i < refine_level else _nearest_resize
        total += resize(level, size)
    total /= np.float32(len(levels))
    return [total]


def _gather_backward(arrays, *, refine_level) -> list[np.ndarray]:
    *levels, _, d_output = arrays
    share = d_output / np.float32(len(levels))
    return [
        (_adaptive_max_pool_gradient if i < refine_level else _nearest_resize_gradient)(
            level, share
        )
        for i, level in enumerate(levels)
    ]


def _split_scatter(inputs: list, outputs: list, arguments: dict) -> Iterator[Part]:
    """Yield one part a level, (B, F_i) to G_i: a level that no head reads has no gradient."""
    balanced, *levels = inputs
    for i, (level, output) in enumerate(zip(levels, outputs)):
        yield [balanced, level], [output], {"level": i, **arguments}


def _check_scattered(balanced: np.ndarray, x: np.ndarray, level: int, refine_level: int) -> None:
    operator, name = "BalancedPyramidScatter", f"level {level}"
    require_map(operator, "B", balanced)
    require_map(operator, name, x)
    if level == refine_level:
        require_same_shape(operator, "B", balanced, name, x)
    require(
        x.shape[:2] == balanced.shape[:2],
        operator,
        f"{name} {x.shape} must have the N and C of B {balanced.shape}",
    )
    require(min(x.shape[2:]) > 0, operator, f"{name} {x.shape} must have pixels")


def _scatter_forward(inputs, *, level, refine_level) -> list[np.ndarray]:
    balanced, x = inputs
    _check_scattered(balanced, x, level, refine_level)
    resize = _nearest_resize if level < refine_level else _adaptive_max_pool
    return [x + resize(balanced, x.shape[2:])]


def _scatter_backward(arrays, *, level, refine_level) -> list[np.ndarray]:
    balanced, _, _, d_output = arrays
    gradient = _nearest_resize_gradient if level < refine_level else _adaptive_max_pool_gradient
    return [gradient(balanced, d_output), d_output]


def _upsample_forward(inputs, *, scale) -> list[np.ndarray]:
    (x,) = inputs
    require(
        x.ndim in (3, 4), "UpsampleNearest", f"x must be (N, C, H, W) or (C, H, W), not {x.shape}"
    )
    return [x.repeat(scale, axis=-2).repeat(scale, axis=-1)]


def _upsample_backward(arrays, *, scale) -> list[np.ndarray]:
    x, _, d_y = arrays
    *outer, height, width = x.shape
    return [d_y.reshape(*outer, height, scale, width, scale).sum(axis=(-3, -1))]


BALANCED_PYRAMID_GATHER = PythonOperator(
    _gather_forward, _gather_backward, differentiable_inputs=ALL
)
BALANCED_PYRAMID_SCATTER = PythonOperator(
    _scatter_forward, _scatter_backward, differentiable_inputs=ALL, split=_split_scatter
)
UPSAMPLE_NEAREST = PythonOperator(_upsample_forward, _upsample_backward)
