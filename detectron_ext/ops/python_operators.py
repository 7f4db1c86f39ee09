"""Adds operators in numpy to nets, for devices on which no native operator can run.

Tensors are float32, indices and labels int32. Python operators compute the same numbers as the
native operators on the CPU, and reject the same inputs. A net with Python operators holds the names
of the functions here, not their code: a process that loads such a net must be able to import this
package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from caffe2.python import core

from detectron_ext.ops.input_checks import require_types
from detectron_ext.ops.table import OPERATORS, PythonOperator


def is_python_operator(name: str) -> bool:
    """Return whether there is a Python operator for the operator `name` of Caffe2's registry."""
    return name in OPERATORS and OPERATORS[name].python is not None


def python_operator(name: str) -> PythonOperator:
    """Return the Python operator for the operator `name`.

    Raises:
        ValueError: there is none.
    """
    if not is_python_operator(name):
        raise ValueError(f"there is no Python operator for {name}")
    operator = OPERATORS[name].python
    assert operator is not None
    return operator


def add(
    net: core.Net, name: str, inputs: Sequence[Any], outputs: Sequence[Any], **arguments: Any
) -> core.BlobReference | tuple[core.BlobReference, ...]:
    """Add operator `name` to `net` as one or several Python operators that have gradients.

    Args:
        net: the net to add to.
        name: a name of the table that has a Python operator; it becomes the operator's name in the
            net.
        inputs: the operator's inputs, in its order.
        outputs: names for the operator's outputs, in its order.
        arguments: the operator's arguments, picklable.

    Returns:
        A reference to the output, or a tuple of references if there are several outputs.

    Raises:
        ValueError: there is no Python operator of that name.
    """
    parts = python_operator(name).split(list(inputs), list(outputs), arguments)
    added = [_add_part(net, name, *part) for part in parts]
    return added[0] if len(added) == 1 else tuple(added)


def _add_part(net: core.Net, name: str, inputs: list, outputs: list, arguments: dict) -> Any:
    operator = OPERATORS[name]
    python = net.Python(
        (build_forward, (name, arguments), {}),
        (build_backward, (name, arguments), {}),
        grad_input_indices=_indices(operator.differentiable_inputs, len(inputs)),
        grad_output_indices=_indices(operator.differentiable_outputs, len(outputs)),
    )
    return python(inputs, outputs, name=name)


def build_forward(name: str, arguments: dict[str, Any]) -> Any:
    """Return the function that Caffe2 calls with the tensors of operator `name`."""
    operator = python_operator(name)

    def forward(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        arrays = [tensor.data for tensor in inputs]
        require_types(name, arrays, operator.input_types)
        _write_tensors(outputs, operator.forward(arrays, **arguments))

    return forward


def build_backward(name: str, arguments: dict[str, Any]) -> Any:
    """Return the function that Caffe2 calls with the tensors of operator `name`'s gradient.

    Caffe2 passes the operator's inputs, then its outputs, then the gradients of the
    differentiable outputs.
    """
    operator = python_operator(name)

    def backward(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        arrays = [tensor.data for tensor in inputs]
        _write_tensors(outputs, operator.backward(arrays, **arguments))

    return backward


def _write_tensors(tensors: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Set shape and values of Caffe2's output tensors: int32 arrays stay int32, all others become
    float32."""
    for tensor, array in zip(tensors, arrays):
        kind = np.int32 if np.asarray(array).dtype == np.int32 else np.float32
        tensor.feed(np.asarray(array, kind, order="C"))


def _indices(positions: slice, count: int) -> list[int]:
    """Return which of `count` inputs or outputs a slice selects."""
    return list(range(count)[positions])
