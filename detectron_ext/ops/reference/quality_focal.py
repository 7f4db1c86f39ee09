"""Quality focal loss (Li et al., Generalized Focal Loss, arXiv:2006.04388, equation 5).

Logits, labels and fg_num are those of `focal_losses`. There is no bound on a logarithm: with a
quality below 1 the loss of a positive grows with its logit on both sides.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.arrays import float64
from detectron_ext.ops.reference.focal_losses import normalizer, sigmoid_terms

__all__ = ["quality_focal_loss", "quality_focal_loss_gradient"]


def quality_focal_loss(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    quality: np.ndarray,
    *,
    beta: float = 2.0,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    scale: float = 1.0,
    num_classes: int = 80,
) -> np.ndarray:
    """Return the sum of the quality focal losses of all logits.

    If p is the probability of a logit and q its target, it contributes |q - p|^beta times the cross
    entropy -(q log p + (1 - q) log(1 - p)). The target is the quality for the class that is the
    label of the anchor, and 0 for the others.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W), from -1 (ignored) to num_classes.
        fg_num: number of foreground anchors; the sum is divided by max(fg_num, 1).
        quality: shaped as labels, from 0 to 1 where the label is a class; not used elsewhere.
        beta: exponent.
        positive_weight: factor of the logits of the anchors' own classes.
        negative_weight: factor of the others.
        scale: factor of the loss.
        num_classes: classes of an anchor.
    """
    x, positive, counted = sigmoid_terms(logits, labels, num_classes)
    target = np.where(positive, float64(quality)[:, :, np.newaxis], 0.0)
    losses = np.abs(distance_to_target(x, target)) ** beta * cross_entropy(x, target)
    weighted = np.where(positive, positive_weight, negative_weight) * losses
    return scale / normalizer(fg_num) * np.where(counted, weighted, 0.0).sum()


def quality_focal_loss_gradient(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    quality: np.ndarray,
    d_loss: np.ndarray | float,
    *,
    beta: float = 2.0,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    scale: float = 1.0,
    num_classes: int = 80,
) -> np.ndarray:
    """Return the gradient of `quality_focal_loss` with respect to the logits.

    It is 0 where p is the quality; below a beta of 1 the loss has a kink there. `d_loss` is the
    gradient of the loss, a scalar. The other parameters are those of `quality_focal_loss`.
    """
    x, positive, counted = sigmoid_terms(logits, labels, num_classes)
    target = np.where(positive, float64(quality)[:, :, np.newaxis], 0.0)
    distance = distance_to_target(x, target)
    slope_of_p = np.exp(-np.logaddexp(0, -x) - np.logaddexp(0, x))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(distance == 0, 0.0, slope_of_p / distance)
    slopes = np.abs(distance) ** beta * (distance + beta * ratio * cross_entropy(x, target))
    weighted = np.where(positive, positive_weight, negative_weight) * slopes
    gradient = float64(d_loss) * scale / normalizer(fg_num) * np.where(counted, weighted, 0.0)
    return gradient.reshape(np.shape(logits))


def distance_to_target(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return p - target."""
    small = np.exp(-np.logaddexp(0, np.abs(x)))  # the smaller one of p and 1 - p
    return np.where(x >= 0, (1 - target) - small, small - target)


def cross_entropy(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return -(target log p + (1 - target) log(1 - p)); 0 times an infinite logit is 0."""
    rest = np.where(x >= 0, 1 - target, target)
    with np.errstate(invalid="ignore"):
        linear = np.where((rest == 0) & ~np.isnan(x), 0.0, rest * np.abs(x))
    return linear + np.log1p(np.exp(-np.abs(x)))
