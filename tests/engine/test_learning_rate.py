from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.engine.learning_rate import learning_rate


def _rates(iterations, *overrides):
    base = ["SOLVER.BASE_LR", "0.1", "SOLVER.WARM_UP_ITERS", "0", "SOLVER.MAX_ITER", "100"]
    solver = configuration.load(None, [*base, *overrides]).SOLVER
    rates = [learning_rate(solver, i) for i in iterations]
    assert all(isinstance(rate, np.float32) for rate in rates)
    return rates


def test_step_policy():
    overrides = ["SOLVER.LR_POLICY", "step", "SOLVER.STEP_SIZE", "30", "SOLVER.GAMMA", "0.5"]
    np.testing.assert_allclose(_rates([0, 29, 30, 60], *overrides), [0.1, 0.1, 0.05, 0.025])


def test_steps_with_decay_policy():
    overrides = ["SOLVER.LR_POLICY", "steps_with_decay", "SOLVER.STEPS", "[0, 60, 80]"]
    np.testing.assert_allclose(
        _rates([0, 59, 60, 79, 80, 99], *overrides), [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6
    )


def test_steps_with_lrs_policy():
    overrides = [
        "SOLVER.LR_POLICY", "steps_with_lrs",
        "SOLVER.STEPS", "[0, 60]", "SOLVER.LRS", "[0.02, 0.3]",
    ]  # fmt: skip
    np.testing.assert_allclose(_rates([59, 60, 120], *overrides), [0.02, 0.3, 0.3])


def test_cosine_and_exponential_decay_end_at_their_final_rates():
    rates = _rates([0, 50, 100], "SOLVER.LR_POLICY", "cosine_decay")
    np.testing.assert_allclose(rates, [0.1, 0.05, 0], atol=1e-8)
    rates = _rates([0, 50, 100], "SOLVER.LR_POLICY", "exp_decay", "SOLVER.GAMMA", "0.01")
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    "method, expected", [("linear", [0.05, 0.075, 0.1]), ("constant", [0.05, 0.05, 0.1])]
)
def test_warm_up_raises_the_rate(method, expected):
    overrides = [
        "SOLVER.LR_POLICY", "step", "SOLVER.WARM_UP_ITERS", "10",
        "SOLVER.WARM_UP_FACTOR", "0.5", "SOLVER.WARM_UP_METHOD", method,
    ]  # fmt: skip
    np.testing.assert_allclose(_rates([0, 5, 10], *overrides), expected, rtol=1e-6)
