"""Focal losses.

Nearly every logit of a detector is a negative, so the sigmoid losses treat all of them as one and
then correct the few positives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectron_ext.ops.python_operators.operator import (
    FIRST,
    FLOAT,
    INTEGER,
    PythonOperator,
    require,
    require_map,
    require_same_shape,
    require_scalar,
)
from detectron_ext.ops.python_operators.softmax import group_softmax, split_groups
from detectron_ext.ops.reference.focal_losses import LOG_OF_SMALLEST

_LARGEST_LOG = -LOG_OF_SMALLEST
_INPUT_TYPES = (FLOAT, INTEGER, FLOAT)


def _check(operator: str, inputs: Sequence[np.ndarray], num_classes: int, max_label: int) -> None:
    """Raise ValueError unless logits, labels, fg_num and perhaps weights fit together."""
    logits, labels, fg_num, *weights = inputs
    require_map(operator, "logits", logits)
    n, channels, height, width = logits.shape
    require(
        channels % num_classes == 0,
        operator,
        f"logits {logits.shape} must have a multiple of {num_classes} channels",
    )
    require(
        labels.shape == (n, channels // num_classes, height, width),
        operator,
        f"labels {labels.shape} must be (N, A, H, W) for logits {logits.shape}",
    )
    require(
        bool(((labels >= -1) & (labels <= max_label)).all()),
        operator,
        f"labels {labels.shape} must be from -1 to {max_label}",
    )
    require_scalar(operator, "fg_num", fg_num)
    for weight in weights:
        require_same_shape(operator, "weights", weight, "labels", labels)


def _factor(fg_num: np.ndarray, scale: float) -> np.float32:
    return np.float32(scale / max(float(fg_num.reshape(())), 1.0))


def _power(base: np.ndarray, exponent: float) -> np.ndarray:
    """Return base ** exponent, without a call a value for the usual exponent."""
    return base * base if exponent == 2 else base ** np.float32(exponent)


def _positives(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, ...]:
    """Return index arrays (n, a, k, y, x) of the positives among (N, A, K, H, W) logits."""
    n, a, y, x = np.nonzero((labels > 0) & (labels <= num_classes))
    return n, a, labels[n, a, y, x] - 1, y, x


def _weighted(terms: np.ndarray, labels: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return terms (N, A, K, H, W) times their anchors' weights, 0 where an anchor is ignored."""
    if weights:
        terms = terms * weights[0][:, :, np.newaxis]
    return np.where(labels[:, :, np.newaxis] == -1, np.float32(0), terms)


def _sigmoid_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p = sigmoid(x), 1 - p without cancellation, and -log(1 - p), of infinities too."""
    tail = np.exp(-np.abs(x))
    large = 1 / (1 + tail)
    small = tail * large
    positive = x >= 0
    softplus = np.maximum(x, 0) + np.log1p(tail)
    return np.where(positive, large, small), np.where(positive, small, large), softplus


def _sigmoid_loss_terms(x: np.ndarray, gamma: float, largest: float = np.inf) -> np.ndarray:
    """Return -p^gamma log(1 - p), the logarithm cut off at -largest: a negative's loss; of -x, a
    positive's."""
    p, _, softplus = _sigmoid_parts(x)
    return _power(p, gamma) * np.minimum(softplus, np.float32(largest))


def _sigmoid_slope_terms(x: np.ndarray, gamma: float) -> np.ndarray:
    """Return the derivative of `_sigmoid_loss_terms` without a cut with respect to x."""
    p, not_p, softplus = _sigmoid_parts(x)
    return _power(p, gamma) * (p + np.float32(gamma) * not_p * softplus)


def _finite(x: np.ndarray) -> np.ndarray:
    """Return x, at most the largest float32: a positive's slope is finite at an infinite logit."""
    return np.minimum(x, np.finfo(np.float32).max)


def _sigmoid_forward(operator: str):
    def forward(inputs, *, gamma, alpha, scale, num_classes) -> list[np.ndarray]:
        _check(operator, inputs, num_classes, num_classes)
        logits, labels, fg_num, *weights = inputs
        x = split_groups(logits, num_classes)
        places = _positives(labels, num_classes)
        terms = np.float32(1 - alpha) * _sigmoid_loss_terms(x, gamma)
        terms[places] = np.float32(alpha) * _sigmoid_loss_terms(-x[places], gamma, _LARGEST_LOG)
        return [_factor(fg_num, scale) * _weighted(terms, labels, weights).sum(dtype=np.float64)]

    return forward


def _sigmoid_backward(operator: str):
    def backward(arrays, *, gamma, alpha, scale, num_classes) -> list[np.ndarray]:
        *inputs, _, d_loss = arrays
        _check(operator, inputs, num_classes, num_classes)
        logits, labels, fg_num, *weights = inputs
        x = split_groups(logits, num_classes)
        places = _positives(labels, num_classes)
        slopes = np.float32(1 - alpha) * _sigmoid_slope_terms(x, gamma)
        slopes[places] = np.float32(-alpha) * _sigmoid_slope_terms(_finite(-x[places]), gamma)
        slopes = _weighted(slopes, labels, weights) * (_factor(fg_num, scale) * d_loss)
        return [slopes.reshape(logits.shape)]

    return backward


def _softmax_terms(
    logits: np.ndarray, labels: np.ndarray, alpha: float, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each anchor (N, A, H, W), its label's log p, 1 - p, and weight."""
    x = split_groups(logits, num_classes)
    chosen = np.maximum(labels, 0)[:, :, np.newaxis].astype(np.int64)
    highest = x.max(axis=2, keepdims=True)
    log_sum = np.log(np.exp(x - highest).sum(axis=2, keepdims=True, dtype=np.float64))
    log_p = (np.take_along_axis(x, chosen, axis=2) - highest - log_sum)[:, :, 0]
    log_p = np.where(labels >= 0, np.minimum(log_p, 0), 0)
    z = np.where(labels == 0, 1 - alpha, alpha) * (labels >= 0)
    return log_p, -np.expm1(log_p), z


def _softmax_forward(inputs, *, gamma, alpha, scale, num_classes) -> list[np.ndarray]:
    _check("SoftmaxFocalLoss", inputs, num_classes, num_classes - 1)
    logits, labels, fg_num = inputs
    log_p, not_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    loss = -_factor(fg_num, scale) * (z * not_p**gamma * np.maximum(log_p, -_LARGEST_LOG)).sum()
    return [loss, group_softmax(logits, num_classes)]


def _softmax_backward(arrays, *, gamma, alpha, scale, num_classes) -> list[np.ndarray]:
    *inputs, _, probabilities, d_loss = arrays
    _check("SoftmaxFocalLoss", inputs, num_classes, num_classes - 1)
    logits, labels, fg_num = inputs
    log_p, not_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    # log p / (1 - p) tends to -1 as p tends to 1.
    ratio = np.divide(log_p, not_p, out=-np.ones_like(log_p), where=not_p > 0)
    slope = z * not_p**gamma * (gamma * np.exp(log_p) * ratio - 1)
    slope = (slope * (_factor(fg_num, scale) * d_loss)).astype(np.float32)[:, :, np.newaxis]
    gradient = -slope * split_groups(probabilities.reshape(logits.shape), num_classes)
    gradient = np.where(labels[:, :, np.newaxis] >= 0, gradient, np.float32(0))
    chosen = np.maximum(labels, 0)[:, :, np.newaxis].astype(np.int64)
    at_label = slope * not_p[:, :, np.newaxis]  # without the cancellation of 1 - p
    np.put_along_axis(gradient, chosen, at_label.astype(np.float32), axis=2)
    return [gradient.reshape(logits.shape)]


def _sigmoid_loss(operator: str) -> PythonOperator:
    return PythonOperator(
        _sigmoid_forward(operator), _sigmoid_backward(operator), input_types=_INPUT_TYPES
    )


SIGMOID_FOCAL_LOSS = _sigmoid_loss("SigmoidFocalLoss")
WEIGHTED_SIGMOID_FOCAL_LOSS = _sigmoid_loss("WeightedSigmoidFocalLoss")
SOFTMAX_FOCAL_LOSS = PythonOperator(
    _softmax_forward,
    _softmax_backward,
    differentiable_outputs=FIRST,
    input_types=_INPUT_TYPES,
)
