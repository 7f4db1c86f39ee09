"""Operators of two-stage detectors: pooling of regions, narrowing of maps, the RPN's log loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = [
    "roi_max_pool",
    "roi_max_pool_gradient",
    "sigmoid_cross_entropy_loss",
    "sigmoid_cross_entropy_loss_gradient",
    "spatial_narrow_as",
    "spatial_narrow_as_gradient",
]


def sigmoid_cross_entropy_loss(
    logits: np.ndarray, targets: np.ndarray, *, scale: float = 1.0, normalize: bool | int = True
) -> np.ndarray:
    """Return scale times the sum, over targets that are not -1, of -log(p if target else 1 - p).

    Here p is the sigmoid of the logit.

    Args:
        logits: of any shape.
        targets: 1, 0, or -1 for ignored; shaped as logits.
        scale: factor of the loss.
        normalize: divide by the number of targets that are not -1. If there are none, the loss
            is 0.
    """
    x, is_counted = float64(logits), targets != -1
    losses = np.maximum(x, 0) - x * targets + np.log1p(np.exp(-np.abs(x)))
    return _cross_entropy_factor(is_counted, scale, normalize) * np.sum(losses[is_counted])


def sigmoid_cross_entropy_loss_gradient(
    logits: np.ndarray,
    targets: np.ndarray,
    d_loss: np.ndarray | float,
    *,
    scale: float = 1.0,
    normalize: bool | int = True,
) -> np.ndarray:
    """Return the gradient of `sigmoid_cross_entropy_loss` with respect to the logits.

    Args:
        logits: of any shape.
        targets: 1, 0, or -1 for ignored; shaped as logits.
        d_loss: gradient of the loss, a scalar.
        scale: factor of the loss.
        normalize: as in `sigmoid_cross_entropy_loss`.
    """
    is_counted = targets != -1
    slopes = 1 / (1 + np.exp(-float64(logits))) - targets
    factor = _cross_entropy_factor(is_counted, scale, normalize) * float64(d_loss)
    return factor * np.where(is_counted, slopes, 0)


def _cross_entropy_factor(is_counted: np.ndarray, scale: float, normalize: bool | int) -> float:
    return scale / max(1, np.count_nonzero(is_counted)) if normalize else scale


def spatial_narrow_as(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the top left corner of a, (N, C, H0, W0), cut to the height and width of b."""
    return a[..., : b.shape[-2], : b.shape[-1]]


def spatial_narrow_as_gradient(a: np.ndarray, b: np.ndarray, d_c: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to a: d_c, padded with zeros to the size of a."""
    d_a = np.zeros(a.shape)
    d_a[..., : b.shape[-2], : b.shape[-1]] = d_c
    return d_a


def roi_max_pool(
    x: np.ndarray, rois: np.ndarray, *, pooled_h: int, pooled_w: int, spatial_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum of each bin of each region, and its position.

    Corners are rounded to cells, and the cells of both corners belong to the region. Bins overlap
    if the region's sides are not multiples of the number of bins. Cells outside the map belong to
    no bin. The maximum of an empty bin is 0.

    Args:
        x: (N, C, H, W).
        rois: (R, 5) rows (image, x1, y1, x2, y2).
        pooled_h: number of bins from top to bottom.
        pooled_w: number of bins from left to right.
        spatial_scale: cells of x in a unit of the corners.

    Returns:
        The maxima, float64, and their positions, int32, both (R, C, pooled_h, pooled_w). A position
        is the index y * W + x of the first maximum of a bin, or -1 for an empty bin.
    """
    maxima = np.zeros((len(rois), x.shape[1], pooled_h, pooled_w))
    argmax = np.full(maxima.shape, -1, np.int32)
    for r, i, j, image, rows, columns in _bins(x, rois, pooled_h, pooled_w, spatial_scale):
        window = x[image, :, rows, columns].reshape(x.shape[1], -1)
        if window.size:
            first = window.argmax(axis=1)
            width = columns.stop - columns.start
            row, column = rows.start + first // width, columns.start + first % width
            maxima[r, :, i, j] = window.max(axis=1)
            argmax[r, :, i, j] = row * x.shape[3] + column
    return maxima, argmax


def roi_max_pool_gradient(
    x: np.ndarray, rois: np.ndarray, argmax: np.ndarray, d_maxima: np.ndarray
) -> np.ndarray:
    """Return the gradient with respect to x: each bin's gradient goes to its maximum.

    Args:
        x: (N, C, H, W).
        rois: (R, 5) rows (image, x1, y1, x2, y2).
        argmax: the positions that `roi_max_pool` returns.
        d_maxima: gradient of the maxima, shaped as argmax.
    """
    n, c, height, width = x.shape
    d_x = np.zeros((n, c, height * width))
    region, channel, row, column = np.nonzero(argmax >= 0)
    image = rois[region, 0].astype(np.int64)
    place = (image, channel, argmax[region, channel, row, column])
    np.add.at(d_x, place, d_maxima[region, channel, row, column])
    return d_x.reshape(x.shape)


def _bins(
    x: np.ndarray, rois: np.ndarray, pooled_h: int, pooled_w: int, spatial_scale: float
) -> Iterator[tuple[int, int, int, int, slice, slice]]:
    """Yield (region, bin row, bin column, image, rows, columns) of every bin."""
    height, width = x.shape[2:]
    scale = np.float32(spatial_scale)
    for r, (image, x1, y1, x2, y2) in enumerate(np.asarray(rois, np.float32)):
        columns = _axis_bins(x1 * scale, x2 * scale, pooled_w, width)
        for i, rows in enumerate(_axis_bins(y1 * scale, y2 * scale, pooled_h, height)):
            for j, cells in enumerate(columns):
                yield r, i, j, int(image), rows, cells


def _axis_bins(low: float, high: float, bins: int, size: int) -> list[slice]:
    """Return the cells of each bin between two corners, in the single precision of Detectron."""
    # Halves are rounded away from zero, as C's round does. The sum is in float64, since in float32
    # adding 0.5 could itself round up to the next cell.
    start, stop = (int(np.copysign(np.floor(abs(float(v)) + 0.5), v)) for v in (low, high))
    step = np.float32(max(stop - start + 1, 1)) / np.float32(bins)
    edges = [
        (np.floor(np.float32(i) * step), np.ceil(np.float32(i + 1) * step)) for i in range(bins)
    ]
    clipped = np.clip(np.array(edges, np.int64) + start, 0, size)
    return [slice(int(begin), int(end)) for begin, end in clipped]
