"""The learning rate of every iteration, from the SOLVER settings."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np


def learning_rate(solver, iteration: int) -> np.float32:
    """Learning rate at an iteration (0-based), warm-up included.

    Args:
        solver: the SOLVER node. LR_POLICY names one of :data:`POLICIES`; during the first
            WARM_UP_ITERS iterations the rate is lowered by WARM_UP_FACTOR, constantly or rising
            linearly to 1.
    """
    rate = POLICIES[solver.LR_POLICY](solver, iteration)
    if iteration < solver.WARM_UP_ITERS:
        progress = 0.0
        if solver.WARM_UP_METHOD == "linear":
            progress = iteration / solver.WARM_UP_ITERS
        rate *= solver.WARM_UP_FACTOR * (1 - progress) + progress
    return np.float32(rate)


def _step_index(solver, iteration: int) -> int:
    """Which of SOLVER.STEPS (sorted, first 0) the iteration is in; past the end, the last."""
    return bisect_right(list(solver.STEPS), iteration) - 1


def _steps_with_lrs(solver, iteration: int) -> float:
    return solver.LRS[_step_index(solver, iteration)]


def _steps_with_decay(solver, iteration: int) -> float:
    return solver.BASE_LR * solver.GAMMA ** _step_index(solver, iteration)


def _step(solver, iteration: int) -> float:
    return solver.BASE_LR * solver.GAMMA ** (iteration // solver.STEP_SIZE)


def _cosine_decay(solver, iteration: int) -> float:
    return solver.BASE_LR * 0.5 * (1 + math.cos(math.pi * iteration / solver.MAX_ITER))


def _exp_decay(solver, iteration: int) -> float:
    """GAMMA is the ratio of the last rate to the first."""
    return solver.BASE_LR * solver.GAMMA ** (iteration / solver.MAX_ITER)


POLICIES = {
    "steps_with_lrs": _steps_with_lrs,
    "steps_with_decay": _steps_with_decay,
    "step": _step,
    "cosine_decay": _cosine_decay,
    "exp_decay": _exp_decay,
}
