"""How many multiplications and additions operators need, and how many a processor does a second."""

from __future__ import annotations

import ctypes
from typing import Any

from caffe2.python import workspace

from detectron_ext.ops.library import NATIVE_LIBRARY

_MEASUREMENTS = 10
_GRADIENT = "Gradient"


def operations_of(operator: Any) -> float:
    """Return the multiplications and additions of an operator, 0 for those that are not counted.

    Counted are Conv, FC, EmbeddedGaussianAttention and their gradients, by their definitions: what
    minimal filtering saves or a gradient computes again changes nothing.

    Args:
        operator: an OperatorDef that has run; its blobs are in the workspace.
    """
    kind = operator.type
    is_gradient = kind.endswith(_GRADIENT)
    if is_gradient:
        kind = kind[: -len(_GRADIENT)]
    if kind in ("Conv", "FC"):
        return _of_filter(operator, is_gradient)
    if kind == "EmbeddedGaussianAttention":
        return _of_attention(operator) * (2 if is_gradient else 1)
    return 0.0


def _of_filter(operator: Any, is_gradient: bool) -> float:
    weights = workspace.FetchBlob(operator.input[1])
    result = operator.input[2] if is_gradient else operator.output[0]
    positions = workspace.GetBlobSizeBytes(result) / 4 / len(weights)
    products = positions * weights.size
    if not is_gradient:
        return 2 * products
    outputs = [blob for blob in operator.output if blob]
    has_bias = not any(arg.name == "no_bias" and arg.i for arg in operator.arg)
    return 2 * products * (len(outputs) - int(has_bias))


def _of_attention(operator: Any) -> float:
    """Return the operations of the forward pass; the gradient has two products for each of its."""
    theta, values = (workspace.FetchBlob(operator.input[i]) for i in (0, 2))
    positions = theta[0, 0].size
    return 2.0 * len(theta) * positions**2 * (theta.shape[1] + values.shape[1])


def peak_operations() -> float:
    """Return the most multiplications and additions a second that the threads do, 0 if unknown.

    It is the best of a few measurements of multiply-adds that read no memory.
    """
    measure = getattr(ctypes.CDLL(str(NATIVE_LIBRARY)), "detectron_ext_operations_per_second", None)
    if measure is None:
        return 0.0
    measure.restype = ctypes.c_double
    return max(measure() for _ in range(_MEASUREMENTS))
