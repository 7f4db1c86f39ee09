"""Positives spread evenly over the objects of an image.

Large objects collect many positive boxes and small ones few; drawn uniformly, the large ones would
do most of the teaching (Pang et al., Libra R-CNN, CVPR 2019, section 3.1).
"""

from __future__ import annotations

import numpy as np


def sample_instance_balanced(
    matched: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw positives so that ground-truth boxes get as equal a number as they can.

    Each ground-truth box gives one of its positives in turn until ``count`` are drawn; one that has
    no more is passed over. Which of its positives a box gives, and which boxes come first in the
    last round, is random.

    Args:
        matched: (K,) int64, for every box its ground-truth box.
        candidates: (N,) int64 indices of the positives, each once.
        count: how many to draw, at least 0.
        rng: source of the draw; not used when all candidates are taken.

    Returns:
        (min(count, N),) int64 of the candidates, distinct, in no particular order.
    """
    if count >= len(candidates):
        return candidates
    shuffled = rng.permutation(candidates)
    instances = matched[shuffled]
    by_instance = np.argsort(instances, kind="stable")
    ordered = instances[by_instance]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    # Round in which each is given: its place among those of the same ground-truth box.
    rounds = np.empty(len(shuffled), dtype=np.int64)
    rounds[by_instance] = np.arange(len(ordered)) - np.repeat(starts, sizes)
    # Stable: within the last round the shuffled order decides.
    return shuffled[np.argsort(rounds, kind="stable")[:count]]
