"""Every native operator gives the same bits on any number of threads, and twice in a row."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from case_inputs import LABELS, big_case
from native_runner import needs_native, run_operator, run_with_gradient, threads
from random_seed import SEED

SOURCES = Path(__file__).resolve().parents[2] / "ops" / "operators"
REGISTRATION = re.compile(r"(?:REGISTER|DETECTRON_EXT_OVERRIDE)_CPU_OPERATOR\(\s*(\w+),")


def run(case):
    """Return the outputs, and the gradients by index of input."""
    if case.differentiable == 0:
        return run_operator(case.operator, case.inputs, case.outputs, **case.arguments), {}
    outputs = run_operator(case.operator, case.inputs, case.outputs, **case.arguments)
    d_outputs = [np.asarray(np.cos(output)) for output in outputs[: case.differentiable]]
    return run_with_gradient(case.operator, case.inputs, d_outputs, case.outputs, **case.arguments)


@needs_native
@pytest.mark.parametrize("label", LABELS)
def test_same_bits_on_any_number_of_threads_and_twice(label):
    case = big_case(label, SEED)
    runs = []
    for count in (1, 2, 4, 4):
        with threads(count):
            runs.append(run(case))

    last_outputs, last_gradients = runs[-1]
    assert bool(last_gradients) == (case.differentiable > 0)
    for outputs, gradients in runs[:-1]:
        assert all(np.array_equal(a, b) for a, b in zip(outputs, last_outputs))
        assert set(gradients) == set(last_gradients)
        for index in gradients:
            assert np.array_equal(gradients[index], last_gradients[index])


def test_every_operator_has_a_case():
    registered = {
        name for source in SOURCES.glob("*.cc") for name in REGISTRATION.findall(source.read_text())
    }
    forward = {name for name in registered if not name.endswith("Gradient")}
    assert forward == {big_case(label, SEED).operator for label in LABELS}
    differentiable = {
        case.operator for case in (big_case(label, SEED) for label in LABELS) if case.differentiable
    }
    assert {name[: -len("Gradient")] for name in registered - forward} <= differentiable
