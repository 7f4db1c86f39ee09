"""Uniform draws without replacement."""

from __future__ import annotations

import numpy as np


def sample_random(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct candidates, each with the same chance.

    Args:
        candidates: (N,) int64 box indices, each once.
        count: how many to draw, at least 0.
        rng: source of the draw; not used when all candidates are taken.

    Returns:
        (min(count, N),) int64 of the candidates, in no particular order.

    Raises:
        ValueError: count is negative.
    """
    if count >= len(candidates):
        return candidates
    return candidates[rng.choice(len(candidates), count, replace=False, shuffle=False)]
