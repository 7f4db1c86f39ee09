"""What a Python operator is made of, and the checks that their functions share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

FIRST = slice(0, 1)
ALL = slice(None)

# Element types that an input may have.
FLOAT, INTEGER, NUMBER = ("float32",), ("int32",), ("float32", "int32")

# The inputs, outputs and arguments of one operator of a net.
Part = Tuple[list, list, dict]


def whole(inputs: list, outputs: list, arguments: dict) -> Iterator[Part]:
    """Yield the operator as it is, in one part."""
    yield inputs, outputs, arguments


class PythonOperator(NamedTuple):
    """One operator on arrays.

    forward(inputs, **arguments) returns the outputs. backward(arrays, **arguments) is given the
    inputs, then the outputs, then the gradients of `differentiable_outputs`, and returns the
    gradients of `differentiable_inputs`. `input_types` are those of the first inputs, the last
    that of all further ones.

    Caffe2 wants a gradient of every one of `differentiable_outputs`. An operator of which some
    may have none has `split`, which yields the parts it is added as, in the order of its outputs;
    forward and backward are those of a part.
    """

    forward: Callable[..., Sequence[np.ndarray]]
    backward: Callable[..., Sequence[np.ndarray]]
    differentiable_inputs: slice = FIRST
    differentiable_outputs: slice = ALL
    input_types: Sequence[tuple[str, ...]] = (FLOAT,)
    split: Callable[[list, list, dict], Iterator[Part]] = whole


def write_tensors(tensors: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Give Caffe2's output `tensors` the shapes and values of `arrays`: int32 as they are, all
    other types as float32."""
    for tensor, array in zip(tensors, arrays):
        kind = np.int32 if np.asarray(array).dtype == np.int32 else np.float32
        tensor.feed(np.asarray(array, kind, order="C"))


def require(condition: bool, operator: str, message: str) -> None:
    """Raise ValueError, naming the operator, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{operator}: {message}")


def require_types(
    operator: str, inputs: Sequence[np.ndarray], types: Sequence[tuple[str, ...]]
) -> None:
    """Raise ValueError unless the inputs are of `types`, as PythonOperator.input_types has them.

    An input without elements may be of any type.
    """
    for i, x in enumerate(inputs):
        allowed = types[min(i, len(types) - 1)]
        require(
            x.dtype.name in allowed or x.size == 0,
            operator,
            f"input {i} of shape {x.shape} must be {' or '.join(allowed)}, not {x.dtype.name}",
        )


def require_map(operator: str, name: str, x: np.ndarray) -> None:
    """Raise ValueError unless x is (N, C, H, W)."""
    require(x.ndim == 4, operator, f"{name} must be (N, C, H, W), not {x.shape}")


def require_same_shape(
    operator: str, name: str, x: np.ndarray, other_name: str, other: np.ndarray
) -> None:
    """Raise ValueError unless two inputs have the same shape."""
    require(
        x.shape == other.shape,
        operator,
        f"{name} {x.shape} must have the shape of {other_name} {other.shape}",
    )


def require_scalar(operator: str, name: str, x: np.ndarray) -> None:
    """Raise ValueError unless x holds one value."""
    require(x.size == 1, operator, f"{name} must be one value, not {x.shape}")
