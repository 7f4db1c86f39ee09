"""Instance-balanced positives (Pang et al., Libra R-CNN, CVPR 2019, section 3.1).

Large objects have many positive boxes and small objects have few. In a uniform draw most samples
would belong to large objects. Here the positives are spread evenly over the objects of an image.
"""

from __future__ import annotations

import numpy as np


def sample_instance_balanced(
    matched: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw positives so that ground-truth boxes get numbers as equal as possible.

    In each round, every ground-truth box that has positives left gives one of them, until ``count``
    are drawn. It is random which of its positives a box gives, and which boxes give one in the last
    round.

    Args:
        matched: (K,) int64, the ground-truth box of every box.
        candidates: (N,) int64, the indices of the positives, each once.
        count: number of positives to draw, at least 0.
        rng: source of the draw. It is not used if all candidates are taken.

    Returns:
        (min(count, N),) int64, distinct elements of ``candidates``, in no particular order.
    """
    if count >= len(candidates):
        return candidates
    shuffled = rng.permutation(candidates)
    instances = matched[shuffled]
    by_instance = np.argsort(instances, kind="stable")
    ordered = instances[by_instance]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    # The round of each positive is its position among those of the same ground-truth box.
    rounds = np.empty(len(shuffled), dtype=np.int64)
    rounds[by_instance] = np.arange(len(ordered)) - np.repeat(starts, sizes)
    # The sort is stable, so the shuffled order decides within the last round.
    return shuffled[np.argsort(rounds, kind="stable")[:count]]
