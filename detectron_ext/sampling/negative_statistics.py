"""How the gradient of the negatives is spread over their IoU bins, for the training log.

The figures of steps and of replicas can be added up. The layout of an array of them, for B bins, is

    [masses of the B bins, their masses with weights, their weights, steps]

A mass is a sum of absolute gradients, see `negative_weights`.
"""

from __future__ import annotations

import numpy as np


def summarise_negatives(figures: np.ndarray) -> dict[str, float]:
    """Compute the figures of the training log.

    Args:
        figures: (3 B + 1,) float, a sum of results of `negative_weights.GradientBalance`.

    Returns:
        For each bin k, from the lowest IoU:

        - ``negative_gradient_share_bin<k>``: its share of the negatives' gradient.
        - ``negative_weighted_share_bin<k>``: its share with weights.
        - ``negative_weight_bin<k>``: the mean of its weight over steps.

        Shares are left out if there is no gradient.
    """
    before, after, weights = np.split(np.asarray(figures[:-1], dtype=np.float64), 3)
    named = {"negative_weight": weights / figures[-1]}
    if before.sum() > 0:
        named["negative_gradient_share"] = before / before.sum()
    if after.sum() > 0:
        named["negative_weighted_share"] = after / after.sum()
    return {
        f"{name}_bin{bin}": float(value)
        for name, values in named.items()
        for bin, value in enumerate(values)
    }
