"""SpatialNarrowAs: a map cut to the height and width of another.

The Python operator evaluates the float64 definition.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.input_checks import require, require_map
from detectron_ext.ops.reference import regions as reference
from detectron_ext.ops.table import (
    DETECTRON,
    NUMBER,
    Operator,
    PythonOperator,
    reference_gradient_of,
    reference_of,
    register,
)


def spatial_narrow_as(net: core.Net, a: Blob, b: Blob, output: Blob) -> core.BlobReference:
    """Add Detectron's SpatialNarrowAs: the top left corner of a map, as large as another map.

    Args:
        net: the net to add to.
        a: (N, C, H0, W0), float32 or int32; the only input with a gradient.
        b: (N, C, H1, W1) or (N, H1, W1) with H1 <= H0 and W1 <= W0; its values are not read.
        output: name of the result, (N, C, H1, W1), of a's type.

    Returns:
        The result.
    """
    return add_operator(net, "SpatialNarrowAs", [a, b], [output])


def _forward(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    a, b = inputs
    require_map("SpatialNarrowAs", "a", a)
    require(
        b.ndim in (3, 4)
        and b.shape[:-2] == a.shape[: b.ndim - 2]
        and b.shape[-2] <= a.shape[2]
        and b.shape[-1] <= a.shape[3],
        "SpatialNarrowAs",
        f"a {a.shape} cannot be narrowed to b {b.shape}",
    )
    return [reference.spatial_narrow_as(a, b)]


def _backward(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    a, b, _, d_output = arrays
    return [reference.spatial_narrow_as_gradient(a, b, d_output)]


register(
    Operator(
        "SpatialNarrowAs",
        spatial_narrow_as,
        ("a", "b"),
        ("output",),
        reference_of(reference.spatial_narrow_as),
        reference_gradient_of(reference.spatial_narrow_as_gradient),
        DETECTRON,
        python=PythonOperator(_forward, _backward, input_types=(NUMBER,)),
    )
)
