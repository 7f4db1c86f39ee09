"""Resizing of feature maps."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator, require_integer


def upsample_nearest(net: core.Net, x: Any, output: Any, scale: int = 2) -> core.BlobReference:
    """Add Detectron's UpsampleNearest: every pixel becomes a square of `scale` by `scale`.

    Args:
        x: (N, C, H, W) or (C, H, W), float32.
        output: name of the result.
        scale: the factor, at least 1.

    Returns:
        The result, (..., H * scale, W * scale).

    Raises:
        ValueError: `scale` is not an integer of at least 1.
    """
    require_integer("scale", scale, 1)
    return add_operator(net, "UpsampleNearest", [x], [output], scale=scale)
