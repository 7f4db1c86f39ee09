"""Compares a native operator with its definition."""

from __future__ import annotations

import numpy as np
from case_types import Case
from native_runner import assert_close, normal
from operator_cases import expected_gradients, expected_outputs, run_case


def check(operator, inputs, seed=0, **arguments):
    """Compare an operator and its gradients with the definition."""
    case = Case("", operator, inputs, arguments)
    expected = expected_outputs(case)
    random = np.random.RandomState(seed)
    d_outputs = [normal(random, *np.shape(output)) for output in expected]
    outputs, gradients, operator_type = run_case(case, d_outputs)

    assert operator_type == operator
    wanted_gradients = expected_gradients(case, d_outputs)
    for actual, wanted in zip([*outputs, *gradients], [*expected, *wanted_gradients]):
        assert_close(actual, wanted)
