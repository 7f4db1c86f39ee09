"""The learning rate of an iteration, from the SOLVER settings."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from detectron_ext.config.settings import SolverSettings


def learning_rate(solver: SolverSettings, iteration: int) -> np.float32:
    """Return the learning rate of an iteration.

    Args:
        solver: the SOLVER node. LR_POLICY names one of :data:`POLICIES`. During the first
            WARM_UP_ITERS iterations the rate is multiplied by WARM_UP_FACTOR (WARM_UP_METHOD
            constant) or by a factor that rises linearly from WARM_UP_FACTOR to 1 (linear).
        iteration: number of the iteration, from 0.
    """
    rate = POLICIES[solver.LR_POLICY](solver, iteration)
    if iteration < solver.WARM_UP_ITERS:
        progress = 0.0
        if solver.WARM_UP_METHOD == "linear":
            progress = iteration / solver.WARM_UP_ITERS
        rate *= solver.WARM_UP_FACTOR * (1 - progress) + progress
    return np.float32(rate)


def _step_index(solver: SolverSettings, iteration: int) -> int:
    """Return the index of the last of SOLVER.STEPS (sorted, the first is 0) that is reached."""
    return bisect_right(list(solver.STEPS), iteration) - 1


def _steps_with_lrs(solver: SolverSettings, iteration: int) -> float:
    return solver.LRS[_step_index(solver, iteration)]


def _steps_with_decay(solver: SolverSettings, iteration: int) -> float:
    return solver.BASE_LR * solver.GAMMA ** _step_index(solver, iteration)


def _step(solver: SolverSettings, iteration: int) -> float:
    return solver.BASE_LR * solver.GAMMA ** (iteration // solver.STEP_SIZE)


def _cosine_decay(solver: SolverSettings, iteration: int) -> float:
    return solver.BASE_LR * 0.5 * (1 + math.cos(math.pi * iteration / solver.MAX_ITER))


def _exp_decay(solver: SolverSettings, iteration: int) -> float:
    """Exponential decay; GAMMA is the ratio of the last rate to the first."""
    return solver.BASE_LR * solver.GAMMA ** (iteration / solver.MAX_ITER)


POLICIES = {
    "steps_with_lrs": _steps_with_lrs,
    "steps_with_decay": _steps_with_decay,
    "step": _step,
    "cosine_decay": _cosine_decay,
    "exp_decay": _exp_decay,
}
