"""Bins of equal width over a range of IoU."""

from __future__ import annotations

import numpy as np


def iou_bins(overlaps: np.ndarray, lower: float, upper: float, num_bins: int) -> np.ndarray:
    """The bin of each overlap.

    Args:
        overlaps: (N,) float.
        lower, upper: the range, lower below upper.
        num_bins: K, at least 1.

    Returns:
        (N,) of the smallest signed integers that hold them: 0 to K - 1, the first bin beginning at
        ``lower`` (included) and the last ending at ``upper`` (excluded); -1 below the range, K
        beyond it.
    """
    # Memory is what this costs: 200,000 anchors of int64 are 1.6 MB to fetch from the system.
    bins = np.full(len(overlaps), -1, dtype=np.min_scalar_type(-num_bins - 1))
    # A few comparisons of whole arrays take a fraction of a search's time.
    for edge in np.linspace(lower, upper, num_bins + 1):
        bins += overlaps >= edge
    return bins
