"""What the front-ends share: the function that adds an operator to a net, and argument checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Union

import numpy as np
from caffe2.python import core

from detectron_ext.limits import MAX_PYRAMID_LEVELS, MIN_PYRAMID_LEVELS
from detectron_ext.ops import library, python_operators

# A blob of a net: a reference to it, or its name.
Blob = Union[core.BlobReference, str]


def add_operator(
    net: core.Net,
    operator: str,
    inputs: Sequence[Blob],
    outputs: Sequence[Blob],
    **arguments: Any,
) -> core.BlobReference | tuple[core.BlobReference, ...]:
    """Add `operator` to `net`: native if it can run on the device in scope, else in Python.

    Args:
        net: the net to add to.
        operator: the operator's name in the table of operators.
        inputs: the operator's inputs, in its order.
        outputs: names for the operator's outputs, in its order.
        arguments: the operator's arguments.

    Returns:
        A reference to the output, or a tuple of references if there are several outputs.
    """
    inputs, outputs = list(inputs), list(outputs)
    # Caffe2 1.10 converts numpy's numbers with a function that newer numpy lacks.
    arguments = {k: v.item() if isinstance(v, np.generic) else v for k, v in arguments.items()}
    if library.has_native(operator):
        return getattr(net, operator)(inputs, outputs, **arguments)
    return python_operators.add(net, operator, inputs, outputs, **arguments)


def single(value: float) -> float:
    """Return `value` in single precision, as operators get it; the result may be infinite."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def require_positive(**values: float) -> None:
    """Raise ValueError naming the first of `values` that is not above 0 and finite as float32."""
    for name, value in values.items():
        if not 0 < single(value) < math.inf:
            raise ValueError(f"{name} must be above 0 and finite as float32, not {value!r}")


def require_not_negative(**values: float) -> None:
    """Raise ValueError naming the first of `values` that is negative or not finite as float32."""
    for name, value in values.items():
        if not 0 <= single(value) < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite as float32, not {value!r}")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError naming argument `name` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def require_integer(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ValueError naming argument `name` unless it is an integer in [low, high]."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {wanted}, not {value!r}")


def require_levels(levels: Sequence[Blob], refine_level: int) -> None:
    """Raise ValueError unless `levels` can be a pyramid and `refine_level` is an index of it."""
    if not MIN_PYRAMID_LEVELS <= len(levels) <= MAX_PYRAMID_LEVELS:
        wanted = f"{MIN_PYRAMID_LEVELS} to {MAX_PYRAMID_LEVELS}"
        raise ValueError(f"levels must be {wanted} blobs, not {len(levels)}")
    require_integer("refine_level", refine_level, 0, len(levels) - 1)
