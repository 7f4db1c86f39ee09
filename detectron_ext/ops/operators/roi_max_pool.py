"""RoIPoolF: max pooling of the bins of regions.

The Python operator evaluates the float64 definition.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_integer, require_positive
from detectron_ext.ops.input_checks import require, require_map
from detectron_ext.ops.reference import regions as reference
from detectron_ext.ops.table import (
    DETECTRON,
    FIRST,
    Operator,
    PythonOperator,
    reference_of,
    register,
)

# Corners must be smaller, in pixels and in cells. In C++: FirstBadRoi (ops/kernels/roi_pool.h).
LARGEST_CORNER = 1e8


def roi_max_pool(
    net: core.Net,
    x: Blob,
    rois: Blob,
    output: Blob,
    argmax: Blob,
    *,
    pooled_h: int,
    pooled_w: int,
    spatial_scale: float,
) -> tuple[core.BlobReference, core.BlobReference]:
    """Add Detectron's RoIPoolF: the maximum of each bin of each region (Fast R-CNN, section 2.1).

    Args:
        net: the net to add to.
        x: (N, C, H, W) float32; the only input with a gradient.
        rois: (R, 5) float32 rows (image, x1, y1, x2, y2), in pixels of the input image. The CPU
            rejects corners of 1e8 pixels or cells and more.
        output: name of the maxima, (R, C, pooled_h, pooled_w) float32.
        argmax: name of the positions of the maxima, which the gradient needs: y * W + x, or -1 in
            an empty bin, shaped as the maxima, int32.
        pooled_h: number of bins from top to bottom, at least 1.
        pooled_w: number of bins from left to right, at least 1.
        spatial_scale: cells of x per pixel, above 0: 1 / stride.

    Returns:
        (maxima, argmax).

    Raises:
        ValueError: an argument is out of its range.
    """
    require_integer("pooled_h", pooled_h, 1)
    require_integer("pooled_w", pooled_w, 1)
    require_positive(spatial_scale=spatial_scale)
    return add_operator(
        net, "RoIPoolF", [x, rois], [output, argmax],
        pooled_h=pooled_h, pooled_w=pooled_w, spatial_scale=float(spatial_scale),
    )  # fmt: skip


def _regions(rois: np.ndarray) -> np.ndarray:
    """Return the regions (R, 5). An empty array of any shape stands for no regions."""
    return rois if rois.size else rois.reshape(0, 5)


def _forward(
    inputs: Sequence[np.ndarray], *, spatial_scale: float, **arguments: Any
) -> list[np.ndarray]:
    x, rois = inputs[0], _regions(inputs[1])
    require_map("RoIPoolF", "x", x)
    require(
        rois.ndim == 2 and rois.shape[1] == 5,
        "RoIPoolF",
        f"rois must be (R, 5), not {rois.shape}",
    )
    images, corners = rois[:, 0], np.abs(np.float64(rois[:, 1:]))
    require(
        # Comparisons with NaN are false.
        bool(((images > -1) & (images < len(x))).all())
        and bool((corners * max(spatial_scale, 1.0) < LARGEST_CORNER).all()),
        "RoIPoolF",
        f"rois {rois.shape} has a row that names no image of x {x.shape} or holds an unusable "
        "number",
    )
    return list(reference.roi_max_pool(x, rois, spatial_scale=spatial_scale, **arguments))


def _backward(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
    x, rois, _, argmax, d_maxima = arrays
    return [reference.roi_max_pool_gradient(x, _regions(rois), argmax, d_maxima)]


def _reference_gradient(
    inputs: Sequence[np.ndarray], d_outputs: Sequence[np.ndarray], **arguments: Any
) -> list[np.ndarray]:
    x, rois = inputs
    _, argmax = reference.roi_max_pool(x, rois, **arguments)
    return [reference.roi_max_pool_gradient(x, rois, argmax, d_outputs[0])]


register(
    Operator(
        "RoIPoolF",
        roi_max_pool,
        ("x", "rois"),
        ("output", "argmax"),
        reference_of(reference.roi_max_pool),
        _reference_gradient,
        DETECTRON,
        python=PythonOperator(_forward, _backward),
        differentiable_outputs=FIRST,
    )
)
