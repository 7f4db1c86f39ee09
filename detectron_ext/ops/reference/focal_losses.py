"""Focal losses (Focal Loss for Dense Object Detection, section 3), as Detectron defines them.

Logits are (N, A * K, H, W): K classes for each of A anchors. Labels are (N, A, H, W). Label -1
means ignored: such an anchor adds nothing to the loss, even if its logits are NaN. Every loss is
divided by max(fg_num, 1).

As in Detectron's kernels, a positive's log p is at least -87.3, the logarithm of the smallest
normal float32. Gradients are those of the losses without this bound. With it, the gradient of such
a positive would be 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectron_ext.ops.reference.arrays import float64
from detectron_ext.ops.reference.softmax import group_spatial_softmax

__all__ = [
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_gradient",
    "softmax_focal_loss",
    "softmax_focal_loss_gradient",
    "weighted_sigmoid_focal_loss",
    "weighted_sigmoid_focal_loss_gradient",
]

LOG_OF_SMALLEST = float(np.log(np.finfo(np.float32).tiny))


def sigmoid_focal_loss(
    logits: np.ndarray, labels: np.ndarray, fg_num: np.ndarray | float, **arguments: Any
) -> np.ndarray:
    """Return `weighted_sigmoid_focal_loss` with weights of 1."""
    return weighted_sigmoid_focal_loss(
        logits, labels, fg_num, np.ones(np.shape(labels)), **arguments
    )


def sigmoid_focal_loss_gradient(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    d_loss: np.ndarray | float,
    **arguments: Any,
) -> np.ndarray:
    """Return the gradient of `sigmoid_focal_loss` with respect to the logits."""
    return weighted_sigmoid_focal_loss_gradient(
        logits, labels, fg_num, np.ones(np.shape(labels)), d_loss, **arguments
    )


def weighted_sigmoid_focal_loss(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    weights: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> np.ndarray:
    """Return the sum of the binary focal losses of all logits.

    Logits of one anchor belong to classes 0 to K - 1. If the label is k > 0, class k - 1 is the
    positive one.

    If p is the probability of a logit, a positive contributes -alpha (1 - p)^gamma log p and any
    other class -(1 - alpha) p^gamma log(1 - p), both multiplied by the anchor's weight.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W), from -1 (ignored) to num_classes.
        fg_num: number of foreground anchors; the sum is divided by max(fg_num, 1).
        weights: shaped as labels.
        gamma: focusing exponent.
        alpha: weight of positives; the weight of the other classes is 1 - alpha.
        scale: factor of the loss.
        num_classes: classes of an anchor.
    """
    x, positive, counted = sigmoid_terms(logits, labels, num_classes)
    log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    p, not_p = np.exp(log_p), np.exp(log_not_p)
    losses = np.where(
        positive,
        -alpha * not_p**gamma * np.maximum(log_p, LOG_OF_SMALLEST),
        -(1 - alpha) * p**gamma * log_not_p,
    )
    weighted = np.where(counted, float64(weights)[:, :, np.newaxis] * losses, 0.0)
    return scale / normalizer(fg_num) * weighted.sum()


def weighted_sigmoid_focal_loss_gradient(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    weights: np.ndarray,
    d_loss: np.ndarray | float,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> np.ndarray:
    """Return the gradient of `weighted_sigmoid_focal_loss` with respect to the logits.

    `d_loss` is the gradient of the loss, a scalar. The other parameters are those of
    `weighted_sigmoid_focal_loss`.
    """
    x, positive, counted = sigmoid_terms(logits, labels, num_classes)
    log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    p, not_p = np.exp(log_p), np.exp(log_not_p)
    slopes = np.where(
        positive,
        -alpha * not_p**gamma * (not_p - gamma * p * log_p),
        (1 - alpha) * p**gamma * (p - gamma * not_p * log_not_p),
    )
    weighted = np.where(counted, float64(weights)[:, :, np.newaxis] * slopes, 0.0)
    return (float64(d_loss) * scale / normalizer(fg_num) * weighted).reshape(np.shape(logits))


def softmax_focal_loss(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 81,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the focal loss of one softmax for each anchor, and the probabilities.

    An anchor contributes -z (1 - p)^gamma log p, where p is the probability of its label, and z is
    1 - alpha for the background (label 0) and alpha for the other classes.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W), from -1 (ignored) to num_classes - 1.
        fg_num: number of foreground anchors; the sum is divided by max(fg_num, 1).
        gamma: focusing exponent.
        alpha: weight of the foreground; the weight of the background is 1 - alpha.
        scale: factor of the loss.
        num_classes: classes of an anchor, including the background.

    Returns:
        The loss, a scalar, and the probabilities, shaped as logits.
    """
    probabilities = group_spatial_softmax(logits, num_classes=num_classes)
    _, log_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    losses = -z * (-np.expm1(log_p)) ** gamma * np.maximum(log_p, LOG_OF_SMALLEST)
    return scale / normalizer(fg_num) * losses.sum(), probabilities


def softmax_focal_loss_gradient(
    logits: np.ndarray,
    labels: np.ndarray,
    fg_num: np.ndarray | float,
    d_loss: np.ndarray | float,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 81,
) -> np.ndarray:
    """Return the gradient of `softmax_focal_loss`'s loss with respect to the logits.

    `d_loss` is the gradient of the loss, a scalar. The other parameters are those of
    `softmax_focal_loss`.
    """
    chosen, log_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    p, not_p = np.exp(log_p), -np.expm1(log_p)
    # d loss / d log p. log p / (1 - p) tends to -1 as p tends to 1.
    ratio = np.divide(log_p, not_p, out=-np.ones_like(p), where=not_p > 0)
    slope = z * not_p**gamma * (gamma * p * ratio - 1)
    probabilities = group_spatial_softmax(logits, num_classes=num_classes)
    gradient = slope[:, :, np.newaxis] * (chosen - probabilities.reshape(chosen.shape))
    gradient = np.where(np.asarray(labels)[:, :, np.newaxis] >= 0, gradient, 0.0)
    return (float64(d_loss) * scale / normalizer(fg_num) * gradient).reshape(np.shape(logits))


def normalizer(fg_num: np.ndarray | float) -> float:
    return max(float(np.squeeze(fg_num)), 1.0)


def _split(logits: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the logits as float64 of shape (N, A, K, H, W)."""
    n, channels, height, width = np.shape(logits)
    return float64(logits).reshape(n, channels // num_classes, num_classes, height, width)


def sigmoid_terms(
    logits: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, ...]:
    """Return the split logits, which of them are positives, and which anchors are not ignored."""
    labels = np.asarray(labels)[:, :, np.newaxis]
    classes = np.arange(1, num_classes + 1).reshape(-1, 1, 1)
    return _split(logits, num_classes), labels == classes, labels != -1


def _softmax_terms(
    logits: np.ndarray, labels: np.ndarray, alpha: float, num_classes: int
) -> tuple[np.ndarray, ...]:
    """Return a mask of the labels' logits (N, A, K, H, W), their log p and weight (N, A, H, W)."""
    labels = np.asarray(labels)
    x = _split(logits, num_classes)
    chosen = labels[:, :, np.newaxis] == np.arange(num_classes).reshape(-1, 1, 1)
    log_sum = np.logaddexp.reduce(x, axis=2)
    log_p = np.where(chosen, x, 0.0).sum(axis=2) - log_sum
    z = np.where(labels == 0, 1 - alpha, alpha) * (labels >= 0)
    return chosen, np.where(labels >= 0, np.minimum(log_p, 0.0), 0.0), z
