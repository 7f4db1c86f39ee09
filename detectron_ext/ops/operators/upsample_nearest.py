"""UpsampleNearest: enlarging maps by a whole factor."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_integer
from detectron_ext.ops.input_checks import require
from detectron_ext.ops.reference import pyramid as reference
from detectron_ext.ops.table import DETECTRON, Operator, PythonOperator, reference_of, register


def upsample_nearest(net: core.Net, x: Blob, output: Blob, scale: int = 2) -> core.BlobReference:
    """Add Detectron's UpsampleNearest: every pixel becomes a square of `scale` by `scale`.

    Args:
        net: the net to add to.
        x: (N, C, H, W) or (C, H, W), float32.
        output: name of the result, (..., H * scale, W * scale).
        scale: the factor, at least 1.

    Returns:
        The result.

    Raises:
        ValueError: `scale` is not an integer of at least 1.
    """
    require_integer("scale", scale, 1)
    return add_operator(net, "UpsampleNearest", [x], [output], scale=scale)


def _forward(inputs: Sequence[np.ndarray], *, scale: int) -> list[np.ndarray]:
    (x,) = inputs
    require(
        x.ndim in (3, 4), "UpsampleNearest", f"x must be (N, C, H, W) or (C, H, W), not {x.shape}"
    )
    return [x.repeat(scale, axis=-2).repeat(scale, axis=-1)]


def _backward(arrays: Sequence[np.ndarray], *, scale: int) -> list[np.ndarray]:
    x, _, d_y = arrays
    *outer, height, width = x.shape
    return [d_y.reshape(*outer, height, scale, width, scale).sum(axis=(-3, -1))]


register(
    Operator(
        "UpsampleNearest",
        upsample_nearest,
        ("x",),
        ("output",),
        reference_of(reference.upsample_nearest),
        lambda inputs, d_outputs, **arguments: [
            reference.upsample_nearest_gradient(d_outputs[0], **arguments)
        ],
        DETECTRON,
        python=PythonOperator(_forward, _backward),
    )
)
