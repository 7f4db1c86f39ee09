"""Runs cases of the operators in the table, and returns what the float64 definitions expect."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
from caffe2.python import core, workspace
from case_types import Case
from native_runner import normal

from detectron_ext import ops
from detectron_ext.ops.table import OPERATORS

Arrays = Sequence[np.ndarray]


# Calls of the front-ends whose parameters are not (net, *inputs, *outputs).
_ADD: dict[str, Callable[..., Any]] = {
    "BalancedPyramidGather": lambda net, inputs, **arguments: ops.balanced_pyramid_gather(
        net, inputs, "output", **arguments
    ),
    "BalancedPyramidScatter": lambda net, inputs, **arguments: ops.balanced_pyramid_scatter(
        net,
        inputs[0],
        inputs[1:],
        [f"output{i}" for i in range(len(inputs) - 1)],
        **arguments,
    ),
    "NonLocalBlock": lambda net, inputs, **arguments: ops.non_local_block(
        net,
        inputs[0],
        "output",
        theta=inputs[1:3],
        phi=inputs[3:5],
        g=inputs[5:7],
        out=inputs[7:9],
        **arguments,
    ),
}

# Inputs, by index, whose gradient is 0 except for rounding; tests/ops/test_non_local.py checks it.
_ZERO_GRADIENTS = {"NonLocalBlock": {4}}


def add_front_end(net: core.Net, operator: str, inputs: list, **arguments: Any) -> list:
    """Add an operator by its front-end; return the outputs."""
    entry = OPERATORS[operator]
    if operator in _ADD:
        added = _ADD[operator](net, inputs, **arguments)
    else:
        added = entry.front_end(net, *inputs, *entry.outputs, **arguments)
    return list(added) if isinstance(added, (list, tuple)) else [added]


def differentiable(operator: str, count: int) -> list[int]:
    """Return which of `count` inputs have a gradient that is not 0."""
    indices = range(count)[OPERATORS[operator].differentiable_inputs]
    return [i for i in indices if i not in _ZERO_GRADIENTS.get(operator, set())]


def expected_outputs(case: Case) -> list[np.ndarray]:
    """Return the case's outputs by the float64 definition."""
    return OPERATORS[case.operator].reference(case.inputs, **case.arguments)


def expected_gradients(case: Case, d_outputs: Arrays) -> list[np.ndarray]:
    """Return the gradients of the `differentiable` inputs by the float64 definition."""
    gradients = OPERATORS[case.operator].reference_gradient(
        case.inputs, d_outputs, **case.arguments
    )
    skipped = _ZERO_GRADIENTS.get(case.operator, set())
    return [gradient for i, gradient in enumerate(gradients) if i not in skipped]


def output_gradients(case: Case, seed: int) -> list[np.ndarray]:
    """Return random gradients of the case's outputs, as float32."""
    random = np.random.RandomState(seed)
    outputs = expected_outputs(case)[OPERATORS[case.operator].differentiable_outputs]
    return [normal(random, *np.shape(output)) for output in outputs]


def run_case(case: Case, d_outputs: Arrays, net_type: str = "simple") -> tuple[list, list, str]:
    """Run the case's front-end and its gradient in a fresh workspace.

    Returns the outputs, the gradients of the differentiable inputs, and the operator's type.
    """
    workspace.ResetWorkspace()
    net = core.Net("case")
    net.Proto().type = net_type
    names = [f"input{i}" for i in range(len(case.inputs))]
    for name, array in zip(names, case.inputs):
        workspace.FeedBlob(name, array)
    outputs = add_front_end(net, case.operator, names, **case.arguments)
    seeds = {}
    for i, (output, d_output) in enumerate(zip(outputs, d_outputs)):
        seeds[output] = net.AddExternalInput(f"d_output{i}")
        workspace.FeedBlob(f"d_output{i}", d_output)
    operator_type = net.Proto().op[0].type
    gradients = net.AddGradientOperators(seeds)
    workspace.RunNetOnce(net)
    inputs = [names[i] for i in differentiable(case.operator, len(names))]
    fetch = workspace.FetchBlob
    return (
        [fetch(str(output)) for output in outputs],
        [fetch(str(gradients[name])) for name in inputs],
        operator_type,
    )


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return |actual - expected| / |expected| in the Euclidean norm; if expected is 0, |actual|."""
    actual, expected = np.float64(actual).ravel(), np.float64(expected).ravel()
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    difference = np.linalg.norm(actual - expected)
    return float(difference / (np.linalg.norm(expected) or 1.0))
