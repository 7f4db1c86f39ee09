"""Uniform draws without replacement."""

from __future__ import annotations

import numpy as np


def sample_random(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct candidates, each with the same probability.

    Args:
        candidates: (N,) int64 indices of boxes, each once.
        count: number of candidates to draw, at least 0.
        rng: source of the draw. It is not used if all candidates are taken.

    Returns:
        (min(count, N),) int64, elements of ``candidates`` in no particular order.

    Raises:
        ValueError: count is negative.
    """
    if count >= len(candidates):
        return candidates
    return candidates[rng.choice(len(candidates), count, replace=False, shuffle=False)]
