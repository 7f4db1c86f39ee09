"""The two operators of the balanced feature pyramid (Libra R-CNN, section 3.2).

Gather integrates all levels into one map. Scatter adds that map, refined or not, to every level.

Maps are float32, NCHW. Levels are given finest first and share N and C. Their sizes need not divide
one another: a level is brought to another size by adaptive max pooling or by nearest resizing, with
PyTorch's index rules. The Python operators use arrays of indices instead of loops over pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Tuple

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_levels
from detectron_ext.ops.input_checks import require, require_map, require_same_shape
from detectron_ext.ops.reference import pyramid as reference
from detectron_ext.ops.table import ALL, LIBRA, Operator, Part, PythonOperator, register

Size = Tuple[int, ...]


def balanced_pyramid_gather(
    net: core.Net, levels: Sequence[Blob], output: Blob, refine_level: int
) -> core.BlobReference:
    """Add BalancedPyramidGather: the mean of all levels at the size of one of them.

    Levels finer than the refine level are adaptive-max-pooled. Coarser ones are nearest-resized.

    Args:
        net: the net to add to.
        levels: F_0 ... F_{n-1}, (N, C, H_i, W_i), 2 to 8 of them, finest first.
        output: name of the mean, (N, C, H_r, W_r).
        refine_level: index r of the level whose size the mean has, from 0 to n - 1.

    Returns:
        The mean.

    Raises:
        ValueError: there are too few or too many levels, or `refine_level` is out of its range.
    """
    require_levels(levels, refine_level)
    return add_operator(net, "BalancedPyramidGather", levels, [output], refine_level=refine_level)


def balanced_pyramid_scatter(
    net: core.Net,
    balanced: Blob,
    levels: Sequence[Blob],
    outputs: Sequence[Blob],
    refine_level: int,
) -> tuple[core.BlobReference, ...]:
    """Add BalancedPyramidScatter: every level plus the balanced map, brought to its size.

    The balanced map is nearest-resized for levels finer than the refine level, and
    adaptive-max-pooled for coarser ones.

    Args:
        net: the net to add to.
        balanced: B, (N, C, H_r, W_r).
        levels: F_0 ... F_{n-1}, (N, C, H_i, W_i), 2 to 8 of them, finest first.
        outputs: names of the n results, shaped as the levels. In training some of them may be
            unused.
        refine_level: index r of the level whose size B has, from 0 to n - 1.

    Returns:
        The n results.

    Raises:
        ValueError: there are too few or too many levels, `refine_level` is out of its range, or
            there are not as many outputs as levels.
    """
    require_levels(levels, refine_level)
    if len(outputs) != len(levels):
        raise ValueError(
            f"outputs must be {len(levels)} names, one for each level, not {len(outputs)}"
        )
    return add_operator(
        net,
        "BalancedPyramidScatter",
        [balanced, *levels],
        outputs,
        refine_level=refine_level,
    )


def _window_indices(size: int, pooled: int) -> np.ndarray:
    """Return the elements (pooled, K) of each window of an adaptive pooling.

    K is the length of the longest window. Shorter windows repeat their last element. This changes
    neither their maximum nor the place where it occurs first.
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
    """Return an array (N, C, H, W) of zeros, plus each of the values (N, C, ...) at its pixel."""
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


def _gather_forward(levels: Sequence[np.ndarray], *, refine_level: int) -> list[np.ndarray]:
    _check_levels("BalancedPyramidGather", levels, refine_level)
    size = levels[refine_level].shape[2:]
    total = np.zeros_like(levels[refine_level])
    for i, level in enumerate(levels):
        resize = _adaptive_max_pool if i < refine_level else _nearest_resize
        total += resize(level, size)
    total /= np.float32(len(levels))
    return [total]


def _gather_backward(arrays: Sequence[np.ndarray], *, refine_level: int) -> list[np.ndarray]:
    *levels, _, d_output = arrays
    share = d_output / np.float32(len(levels))
    return [
        (_adaptive_max_pool_gradient if i < refine_level else _nearest_resize_gradient)(
            level, share
        )
        for i, level in enumerate(levels)
    ]


def _split_scatter(inputs: list, outputs: list, arguments: dict) -> Iterator[Part]:
    """Yield one part for each level, from (B, F_i) to G_i, since unused levels have no gradient."""
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


def _scatter_forward(
    inputs: Sequence[np.ndarray], *, level: int, refine_level: int
) -> list[np.ndarray]:
    balanced, x = inputs
    _check_scattered(balanced, x, level, refine_level)
    resize = _nearest_resize if level < refine_level else _adaptive_max_pool
    return [x + resize(balanced, x.shape[2:])]


def _scatter_backward(
    arrays: Sequence[np.ndarray], *, level: int, refine_level: int
) -> list[np.ndarray]:
    balanced, _, _, d_output = arrays
    gradient = _nearest_resize_gradient if level < refine_level else _adaptive_max_pool_gradient
    return [gradient(balanced, d_output), d_output]


register(
    Operator(
        "BalancedPyramidGather",
        balanced_pyramid_gather,
        ("levels",),
        ("output",),
        lambda inputs, **arguments: [reference.balanced_pyramid_gather(inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: reference.balanced_pyramid_gather_gradient(
            inputs, d_outputs[0], **arguments
        ),
        LIBRA,
        python=PythonOperator(_gather_forward, _gather_backward),
        differentiable_inputs=ALL,
    )
)
register(
    Operator(
        "BalancedPyramidScatter",
        balanced_pyramid_scatter,
        ("balanced", "levels"),
        ("outputs",),
        lambda inputs, **arguments: reference.balanced_pyramid_scatter(
            inputs[0], inputs[1:], **arguments
        ),
        lambda inputs, d_outputs, **arguments: reference.balanced_pyramid_scatter_gradient(
            inputs[0], d_outputs, **arguments
        ),
        LIBRA,
        python=PythonOperator(_scatter_forward, _scatter_backward, split=_split_scatter),
        differentiable_inputs=ALL,
    )
)
