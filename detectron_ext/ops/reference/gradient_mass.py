"""How much of the focal loss's gradient comes from the negatives of each bin."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.focal_losses import weighted_sigmoid_focal_loss_gradient

__all__ = ["negative_gradient_mass"]


def negative_gradient_mass(
    logits: np.ndarray,
    bins: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    num_classes: int = 80,
    num_bins: int = 3,
) -> np.ndarray:
    """Return the sum of the absolute gradients of the logits of the negatives of each bin.

    The gradient is that of `weighted_sigmoid_focal_loss` before the division by fg_num.

    Args:
        logits: (N, A * num_classes, H, W).
        bins: (N, A, H, W): 1 to num_bins for negatives, 0 for anchors that are not counted.
        gamma: focusing exponent.
        alpha: weight of positives; the weight of negatives is 1 - alpha.
        num_classes: classes of an anchor.
        num_bins: number K of bins.

    Returns:
        (K,) float64; bin k + 1 is at place k.
    """
    bins = np.asarray(bins)
    gradient = weighted_sigmoid_focal_loss_gradient(
        logits, np.where(bins == 0, -1, 0), 1.0, np.ones(bins.shape), 1.0,
        gamma=gamma, alpha=alpha, num_classes=num_classes,
    )  # fmt: skip
    n, anchors, height, width = bins.shape
    of_anchors = np.abs(gradient).reshape(n, anchors, num_classes, height, width).sum(axis=2)
    return np.bincount(bins.ravel(), of_anchors.ravel(), minlength=num_bins + 1)[1:]
