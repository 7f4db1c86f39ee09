"""Overlaps to sample from, and checks of draws."""

from __future__ import annotations

import numpy as np

SEEDS = (0, 1, 2, 3)
# Quantiles of the chi-square distribution at 0.999, by degrees of freedom.
CHI_SQUARE_999 = {4: 18.467, 6: 22.458, 11: 31.264}


def overlaps_in(*groups) -> np.ndarray:
    """Return overlaps for groups (number, lower, upper), spread evenly inside each group."""
    parts = [np.linspace(low, high, number, endpoint=False) for number, low, high in groups]
    return np.concatenate(parts).astype(np.float32)


def assert_drawn(drawn, candidates, count) -> None:
    """Check that as many as possible were drawn: distinct ones, all of them candidates."""
    assert len(drawn) == min(count, len(candidates))
    assert drawn.dtype == np.int64
    assert len(np.unique(drawn)) == len(drawn)
    assert np.isin(drawn, candidates).all()


def assert_uniform(counts, num_draws, drawn_each_time) -> None:
    """Check by a chi-square test that n boxes were drawn with equal probability.

    Without replacement the counts vary less than independent ones, by (n - m) / (n - 1).
    """
    size = len(counts)
    expected = num_draws * drawn_each_time / size
    shrinkage = (size - drawn_each_time) / (size - 1)
    statistic = np.square(counts - expected).sum() / expected / shrinkage
    assert statistic < CHI_SQUARE_999[size - 1]
