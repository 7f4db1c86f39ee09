"""Compares a native operator with its definition."""

from __future__ import annotations

import numpy as np
from case_inputs import Case
from native_runner import assert_close, normal
from operator_cases import DEFINITIONS, run_case


def check(operator, inputs, seed=0, **arguments):
    """Compare an operator and its gradients with the definition."""
    definition = DEFINITIONS[operator]
    expected = definition.forward(inputs, **arguments)
    random = np.random.RandomState(seed)
    d_outputs = [normal(random, *np.shape(output)) for output in expected]
    case = Case("", operator, inputs, arguments)
    outputs, gradients, operator_type = run_case(case, d_outputs)

    assert operator_type == operator
    expected_gradients = definition.gradient(inputs, d_outputs, **arguments)
    for actual, wanted in zip([*outputs, *gradients], [*expected, *expected_gradients]):
        assert_close(actual, wanted)
