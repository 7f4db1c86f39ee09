"""Runs single native operators and their gradients; a mark for tests that need the library."""

from __future__ import annotations

import contextlib
from typing import Any, Sequence

import numpy as np
import pytest
import torch
from caffe2.python import core, workspace

from detectron_ext import ops

needs_native = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="the native operators are not built (make ops)"
)


def run_operator(
    operator: str,
    inputs: Sequence[np.ndarray],
    outputs: int | Sequence[str] = 1,
    **arguments: Any,
) -> list[np.ndarray]:
    """Run one operator and return its outputs.

    Args:
        operator: the operator's name.
        inputs: arrays; their blobs are called input0, input1, ...
        outputs: the number of outputs, or the names of their blobs.
        arguments: the operator's arguments.
    """
    workspace.ResetWorkspace()
    definition, names = _create(operator, inputs, outputs, arguments)
    workspace.RunOperatorOnce(definition)
    return [workspace.FetchBlob(name) for name in names]


def run_with_gradient(
    operator: str,
    inputs: Sequence[np.ndarray],
    d_output: np.ndarray | Sequence[np.ndarray] | None = None,
    outputs: int = 1,
    **arguments: Any,
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """Run one operator and its gradient.

    Args:
        operator: the operator's name.
        inputs: arrays.
        d_output: the gradient of the first output, or a list of gradients of the first outputs. The
            other outputs have no gradient. None stands for ones for the first output.
        outputs: the number of outputs.
        arguments: the operator's arguments.

    Returns:
        The outputs, and the gradients of the inputs by the input's index.
    """
    workspace.ResetWorkspace()
    definition, names = _create(operator, inputs, outputs, arguments)
    workspace.RunOperatorOnce(definition)
    results = [workspace.FetchBlob(name) for name in names]
    seeds = [np.ones_like(results[0])] if d_output is None else d_output
    seeds = [seeds] if isinstance(seeds, np.ndarray) else seeds
    d_names = [f"d_output{i}" for i in range(len(seeds))]
    for name, seed in zip(d_names, seeds):
        workspace.FeedBlob(name, seed)
    makers, gradients = core.GradientRegistry.GetGradientForOp(
        definition, d_names + [None] * (outputs - len(seeds))
    )
    workspace.RunOperatorsOnce(makers)
    fetched = {
        i: workspace.FetchBlob(str(name)) for i, name in enumerate(gradients) if name is not None
    }
    return results, fetched


def _create(operator, inputs, outputs, arguments):
    names = [f"input{i}" for i in range(len(inputs))]
    for name, array in zip(names, inputs):
        workspace.FeedBlob(name, array)
    results = [f"output{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
    return core.CreateOperator(operator, names, results, **arguments), results


@contextlib.contextmanager
def threads(count: int):
    """Let native operators use `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Assert equal shapes and an error of at most `tolerance` relative to the norm."""
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    error = np.linalg.norm((actual - expected).ravel())
    assert error <= tolerance * (np.linalg.norm(expected.ravel()) or 1.0)


def normal(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return float32 numbers of a standard normal distribution."""
    return random.standard_normal(shape).astype(np.float32)
