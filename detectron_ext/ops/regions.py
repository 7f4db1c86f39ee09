"""Operators of two-stage detectors that Detectron's library has without a CPU implementation."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator, require_integer, require_positive


def spatial_narrow_as(net: core.Net, a: Any, b: Any, output: Any) -> core.BlobReference:
    """Add Detectron's SpatialNarrowAs: the top left of a map, in the size of another.

    Args:
        a: (N, C, H0, W0), float32 or int32.
        b: (N, C, H1, W1) or (N, H1, W1) with H1 <= H0 and W1 <= W0.
        output: name of the result.

    Returns:
        The result, (N, C, H1, W1), of a's type.
    """
    return add_operator(net, "SpatialNarrowAs", [a, b], [output])


def roi_max_pool(
    net: core.Net,
    x: Any,
    rois: Any,
    output: Any,
    argmax: Any,
    *,
    pooled_h: int,
    pooled_w: int,
    spatial_scale: float,
) -> tuple[core.BlobReference, core.BlobReference]:
    """Add Detectron's RoIPoolF: the maximum of every bin of a region (Fast R-CNN, section 2.1).

    Args:
        x: (N, C, H, W) float32; the only input with a gradient.
        rois: (R, 5) float32 rows (image, x1, y1, x2, y2) in pixels.
        output: name of the result.
        argmax: name of the places of the maxima, which the gradient needs.
        pooled_h, pooled_w: bins of a region, down and across.
        spatial_scale: cells of x in a pixel.

    Returns:
        (result, argmax), each (R, C, pooled_h, pooled_w), float32 and int32.

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
