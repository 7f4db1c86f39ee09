"""The table of operators: everything that is known about an operator stands in its entry.

A module of `detectron_ext.ops.operators` registers an entry for each of its operators. These
things follow from the entries:

- which library an operator comes from, and whether it can run on CUDA (`library.has_native`);
- the Python operators (`python_operators.add`);
- the functions that `detectron_ext.ops` exports;
- the cases that the tests compare with the float64 definitions;
- docs/operators.md (`document`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from detectron_ext.errors import ConfigError, shown
from detectron_ext.registry import Registry

FIRST, ALL, NONE = slice(0, 1), slice(None), slice(0)

# Element types that an input may have.
FLOAT, INTEGER, NUMBER = ("float32",), ("int32",), ("float32", "int32")

# The libraries that register an operator with Caffe2.
DETECTRON, LIBRA = "Detectron", "Libra R-CNN"

# The inputs, outputs and arguments of one operator of a net.
Part = Tuple[list, list, dict]


def whole(inputs: list, outputs: list, arguments: dict) -> Iterator[Part]:
    """Yield the operator as it is, in one part."""
    yield inputs, outputs, arguments


class PythonOperator(NamedTuple):
    """An operator in numpy, for devices on which no native one can run.

    Attributes:
        forward: ``forward(inputs, **arguments)`` returns the outputs. It raises ValueError for
            inputs that do not fit one another.
        backward: ``backward(arrays, **arguments)`` returns the gradients of the differentiable
            inputs. The arrays are the inputs, the outputs, and the gradients of the differentiable
            outputs, in this order.
        input_types: the element types allowed for each of the first inputs; the last entry holds
            for all further inputs.
        split: yields the parts that the operator is added as, in the order of its outputs;
            ``forward`` and ``backward`` are those of one part. Caffe2 needs a gradient for every
            differentiable output of a Python operator, so an operator whose outputs may lack
            gradients is added in parts.
    """

    forward: Callable[..., Sequence[np.ndarray]]
    backward: Callable[..., Sequence[np.ndarray]]
    input_types: Sequence[tuple[str, ...]] = (FLOAT,)
    split: Callable[[list, list, dict], Iterator[Part]] = whole


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: the name in Caffe2's registry; its gradient is ``name + "Gradient"``.
        front_end: the function that adds the operator to a net. Its docstring is the operator's
            documentation and describes every parameter.
        inputs: the front-end's parameters that are the operator's inputs, in the operator's order.
            A parameter may hold several blobs.
        outputs: the front-end's parameters that name the operator's outputs.
        reference: the float64 definition: ``reference(inputs, **arguments)`` returns a list of
            outputs.
        reference_gradient: its gradient: ``reference_gradient(inputs, d_outputs, **arguments)``
            takes the gradients of the differentiable outputs and returns a list of the gradients of
            the differentiable inputs.
        library: DETECTRON or LIBRA.
        has_cuda: whether the library has the operator for CUDA.
        python: the operator in numpy; None if the front-end composes the operator of others.
        differentiable_inputs: which inputs have a gradient.
        differentiable_outputs: which outputs have a gradient.
    """

    name: str
    front_end: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reference: Callable[..., list[np.ndarray]]
    reference_gradient: Callable[..., list[np.ndarray]]
    library: str
    has_cuda: bool = True
    python: PythonOperator | None = None
    differentiable_inputs: slice = FIRST
    differentiable_outputs: slice = ALL

    @property
    def arguments(self) -> dict[str, Any]:
        """The operator's arguments by name, with their defaults (`inspect.Parameter.empty`: none).

        They are the parameters of the front-end that are neither the net nor inputs nor outputs.
        """
        others = {"net", *self.inputs, *self.outputs}
        parameters = inspect.signature(self.front_end).parameters
        return {name: p.default for name, p in parameters.items() if name not in others}


OPERATORS: Registry[Operator] = Registry(
    "operator", "an Operator", lambda part: isinstance(part, Operator)
)


def register(operator: Operator) -> Operator:
    """Add an entry to the table and return it.

    Raises:
        ConfigError: the table has an operator of that name, or the entry is no `Operator`.
    """
    if not isinstance(operator, Operator):
        raise ConfigError(f"operator: an entry must be an Operator, given {shown(operator)}")
    return OPERATORS.register(operator.name)(operator)


def register_loss(
    name: str,
    front_end: Callable[..., Any],
    library: str,
    inputs: tuple[str, ...],
    loss: Callable[..., np.ndarray],
    gradient: Callable[..., np.ndarray],
    python: PythonOperator,
) -> Operator:
    """Add the entry of a loss: one output, and a gradient for the first input alone.

    Args:
        name: the operator's name in Caffe2's registry.
        front_end: the function that adds the operator to a net. Its parameter that names the loss
            must be called "output".
        library: DETECTRON or LIBRA.
        inputs: the front-end's parameters that are the operator's inputs, in the operator's order.
        loss: the float64 definition: takes the inputs one by one, then the arguments by name.
        gradient: the definition's gradient with respect to the first input: takes the inputs and
            the gradient of the loss one by one, then the arguments by name.
        python: the operator in numpy.

    Returns:
        The entry.

    Raises:
        ConfigError: the table has an operator of that name.
    """
    return register(
        Operator(
            name,
            front_end,
            inputs,
            ("output",),
            reference_of(loss),
            reference_gradient_of(gradient),
            library,
            python=python,
        )
    )


def operators_of(library: str) -> list[str]:
    """Return the names of the operators that come from `library`, DETECTRON or LIBRA."""
    return [name for name, operator in OPERATORS.items() if operator.library == library]


def reference_of(function: Callable[..., Any]) -> Callable[..., list[np.ndarray]]:
    """Return a definition for `Operator.reference` from one that takes the inputs one by one."""
    return lambda inputs, **arguments: _as_list(function(*inputs, **arguments))


def reference_gradient_of(function: Callable[..., Any]) -> Callable[..., list[np.ndarray]]:
    """Return a gradient for `Operator.reference_gradient` from one that takes the inputs, then the
    gradients of the outputs, one by one."""
    return lambda inputs, d_outputs, **arguments: _as_list(
        function(*inputs, *d_outputs, **arguments)
    )


def _as_list(arrays: Any) -> list[np.ndarray]:
    return list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
