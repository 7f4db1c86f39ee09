"""Focal losses (Focal Loss for Dense Object Detection, section 3), of sigmoids and of softmaxes.

Each loss is a scalar. Only the logits receive a gradient. Nearly all logits of a detector are
negatives, so the Python operators of the sigmoid losses treat every logit as a negative and then
correct the few positives.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.input_checks import (
    require,
    require_map,
    require_same_shape,
    require_scalar,
)
from detectron_ext.ops.loss_arguments import focal_arguments
from detectron_ext.ops.operators.group_spatial_softmax import group_softmax, split_groups
from detectron_ext.ops.reference import focal_losses as reference
from detectron_ext.ops.reference.focal_losses import LOG_OF_SMALLEST
from detectron_ext.ops.table import (
    DETECTRON,
    FIRST,
    FLOAT,
    INTEGER,
    LIBRA,
    Operator,
    PythonOperator,
    reference_gradient_of,
    reference_of,
    register,
    register_loss,
)

_LARGEST_LOG = -LOG_OF_SMALLEST
INPUT_TYPES = (FLOAT, INTEGER, FLOAT)


def sigmoid_focal_loss(
    net: core.Net,
    logits: Blob,
    labels: Blob,
    fg_num: Blob,
    output: Blob,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> core.BlobReference:
    """Add Detectron's SigmoidFocalLoss: the focal loss of one sigmoid for each class and anchor.

        loss = scale / max(fg_num, 1) * sum over the anchors that are not ignored and over classes
            of -alpha (1 - p)^gamma log p              for the class of the anchor's label
            or -(1 - alpha) p^gamma log(1 - p)         for every other class

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32; the only input with a gradient.
        labels: (N, A, H, W) int32; 0 is background, 1 to num_classes a class, -1 ignored. The CPU
            rejects other labels. CUDA does not check labels and takes others for background.
        fg_num: number of foreground anchors over all levels, one float32 value.
        output: name of the loss, a scalar.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1; the weight of the background is 1 - alpha.
        scale: factor of the loss, at least 0.
        num_classes: classes of an anchor without the background, at least 1.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 1)
    return add_operator(net, "SigmoidFocalLoss", [logits, labels, fg_num], [output], **arguments)


def weighted_sigmoid_focal_loss(
    net: core.Net,
    logits: Blob,
    labels: Blob,
    fg_num: Blob,
    weights: Blob,
    output: Blob,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> core.BlobReference:
    """Add WeightedSigmoidFocalLoss: `sigmoid_focal_loss` with a weight for every anchor.

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32; the only input with a gradient.
        labels: (N, A, H, W) int32, as in `sigmoid_focal_loss`.
        fg_num: number of foreground anchors over all levels, one float32 value.
        weights: factors of the anchors' terms, shaped as labels, float32.
        output: name of the loss, a scalar.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1; the weight of the background is 1 - alpha.
        scale: factor of the loss, at least 0.
        num_classes: classes of an anchor without the background, at least 1.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 1)
    inputs = [logits, labels, fg_num, weights]
    return add_operator(net, "WeightedSigmoidFocalLoss", inputs, [output], **arguments)


def softmax_focal_loss(
    net: core.Net,
    logits: Blob,
    labels: Blob,
    fg_num: Blob,
    output: Blob,
    prob: Blob | None = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 81,
) -> tuple[core.BlobReference, core.BlobReference]:
    """Add Detectron's SoftmaxFocalLoss: the focal loss of one softmax for each anchor.

        loss = scale / max(fg_num, 1) * sum over the anchors that are not ignored
            of -z (1 - p)^gamma log p, where z is 1 - alpha for label 0 and alpha for others

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32; class 0 of each anchor is the background. The
            only input with a gradient.
        labels: (N, A, H, W) int32, from 0 to num_classes - 1, or -1 for ignored. The CPU rejects
            other labels. CUDA does not check labels.
        fg_num: number of foreground anchors over all levels, one float32 value.
        output: name of the loss, a scalar.
        prob: name of the probabilities, shaped as logits; by default `output` with "_prob" at the
            end.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1; the weight of the background is 1 - alpha.
        scale: factor of the loss, at least 0.
        num_classes: classes of an anchor, including the background, at least 2.

    Returns:
        (loss, prob).

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 2)
    outputs = [output, output + "_prob" if prob is None else prob]
    return add_operator(net, "SoftmaxFocalLoss", [logits, labels, fg_num], outputs, **arguments)


def check_focal_inputs(
    operator: str, inputs: Sequence[np.ndarray], num_classes: int, max_label: int
) -> None:
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


def loss_factor(fg_num: np.ndarray, scale: float) -> np.float32:
    """Return scale / max(fg_num, 1)."""
    return np.float32(scale / max(float(fg_num.reshape(())), 1.0))


def _power(base: np.ndarray, exponent: float) -> np.ndarray:
    """Return base ** exponent. The usual exponent, 2, is computed as a product."""
    return base * base if exponent == 2 else base ** np.float32(exponent)


def positive_places(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, ...]:
    """Return index arrays (n, a, k, y, x) of the positives among (N, A, K, H, W) logits."""
    n, a, y, x = np.nonzero((labels > 0) & (labels <= num_classes))
    return n, a, labels[n, a, y, x] - 1, y, x


def weighted_terms(
    terms: np.ndarray, labels: np.ndarray, weights: Sequence[np.ndarray]
) -> np.ndarray:
    """Return terms (N, A, K, H, W) times their anchors' weights; 0 at ignored anchors."""
    if weights:
        terms = terms * weights[0][:, :, np.newaxis]
    return np.where(labels[:, :, np.newaxis] == -1, np.float32(0), terms)


def _sigmoid_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p = sigmoid(x), 1 - p without cancellation, and -log(1 - p); x may be infinite."""
    tail = np.exp(-np.abs(x))
    large = 1 / (1 + tail)
    small = tail * large
    positive = x >= 0
    softplus = np.maximum(x, 0) + np.log1p(tail)
    return np.where(positive, large, small), np.where(positive, small, large), softplus


def sigmoid_loss_terms(x: np.ndarray, gamma: float, largest: float = np.inf) -> np.ndarray:
    """Return -p^gamma log(1 - p), where p = sigmoid(x) and the logarithm is at least -largest.

    This is a negative's loss at x, and a positive's loss at -x.
    """
    p, _, softplus = _sigmoid_parts(x)
    return _power(p, gamma) * np.minimum(softplus, np.float32(largest))


def sigmoid_slope_terms(x: np.ndarray, gamma: float) -> np.ndarray:
    """Return the derivative of `sigmoid_loss_terms`, without its bound, with respect to x."""
    p, not_p, softplus = _sigmoid_parts(x)
    return _power(p, gamma) * (p + np.float32(gamma) * not_p * softplus)


def _finite(x: np.ndarray) -> np.ndarray:
    """Return x, at most the largest float32, so that slopes at infinite logits are finite."""
    return np.minimum(x, np.finfo(np.float32).max)


def _sigmoid_terms(
    operator: str,
    inputs: Sequence[np.ndarray],
    num_classes: int,
    of_negatives: Callable[[np.ndarray], np.ndarray],
    of_positives: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the terms of all logits (N, A, K, H, W), weighted; 0 at ignored anchors.

    Args:
        operator: the operator's name, for messages.
        inputs: logits, labels, fg_num and perhaps weights.
        num_classes: K.
        of_negatives: returns the terms of logits, given (N, A, K, H, W), as negatives.
        of_positives: returns the terms of the positive logits, given (P).
    """
    check_focal_inputs(operator, inputs, num_classes, num_classes)
    logits, labels, _, *weights = inputs
    x = split_groups(logits, num_classes)
    places = positive_places(labels, num_classes)
    terms = of_negatives(x)
    terms[places] = of_positives(x[places])
    return weighted_terms(terms, labels, weights)


def _sigmoid_forward(operator: str) -> Callable[..., list[np.ndarray]]:
    def forward(
        inputs: Sequence[np.ndarray], *, gamma: float, alpha: float, scale: float, num_classes: int
    ) -> list[np.ndarray]:
        losses = _sigmoid_terms(
            operator,
            inputs,
            num_classes,
            lambda x: np.float32(1 - alpha) * sigmoid_loss_terms(x, gamma),
            lambda x: np.float32(alpha) * sigmoid_loss_terms(-x, gamma, _LARGEST_LOG),
        )
        return [loss_factor(inputs[2], scale) * losses.sum(dtype=np.float64)]

    return forward


def _sigmoid_backward(operator: str) -> Callable[..., list[np.ndarray]]:
    def backward(
        arrays: Sequence[np.ndarray], *, gamma: float, alpha: float, scale: float, num_classes: int
    ) -> list[np.ndarray]:
        *inputs, _, d_loss = arrays
        slopes = _sigmoid_terms(
            operator,
            inputs,
            num_classes,
            lambda x: np.float32(1 - alpha) * sigmoid_slope_terms(x, gamma),
            lambda x: np.float32(-alpha) * sigmoid_slope_terms(_finite(-x), gamma),
        )
        slopes = slopes * (loss_factor(inputs[2], scale) * d_loss)
        return [slopes.reshape(inputs[0].shape)]

    return backward


def _softmax_terms(
    logits: np.ndarray, labels: np.ndarray, alpha: float, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each anchor (N, A, H, W), log p and 1 - p of its label, and its weight z."""
    x = split_groups(logits, num_classes)
    chosen = np.maximum(labels, 0)[:, :, np.newaxis].astype(np.int64)
    highest = x.max(axis=2, keepdims=True)
    log_sum = np.log(np.exp(x - highest).sum(axis=2, keepdims=True, dtype=np.float64))
    log_p = (np.take_along_axis(x, chosen, axis=2) - highest - log_sum)[:, :, 0]
    log_p = np.where(labels >= 0, np.minimum(log_p, 0), 0)
    z = np.where(labels == 0, 1 - alpha, alpha) * (labels >= 0)
    return log_p, -np.expm1(log_p), z


def _softmax_forward(
    inputs: Sequence[np.ndarray], *, gamma: float, alpha: float, scale: float, num_classes: int
) -> list[np.ndarray]:
    check_focal_inputs("SoftmaxFocalLoss", inputs, num_classes, num_classes - 1)
    logits, labels, fg_num = inputs
    log_p, not_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    loss = -loss_factor(fg_num, scale) * (z * not_p**gamma * np.maximum(log_p, -_LARGEST_LOG)).sum()
    return [loss, group_softmax(logits, num_classes)]


def _softmax_backward(
    arrays: Sequence[np.ndarray], *, gamma: float, alpha: float, scale: float, num_classes: int
) -> list[np.ndarray]:
    *inputs, _, probabilities, d_loss = arrays
    check_focal_inputs("SoftmaxFocalLoss", inputs, num_classes, num_classes - 1)
    logits, labels, fg_num = inputs
    log_p, not_p, z = _softmax_terms(logits, labels, alpha, num_classes)
    # log p / (1 - p) tends to -1 as p tends to 1.
    ratio = np.divide(log_p, not_p, out=-np.ones_like(log_p), where=not_p > 0)
    slope = z * not_p**gamma * (gamma * np.exp(log_p) * ratio - 1)
    slope = (slope * (loss_factor(fg_num, scale) * d_loss)).astype(np.float32)[:, :, np.newaxis]
    gradient = -slope * split_groups(probabilities.reshape(logits.shape), num_classes)
    gradient = np.where(labels[:, :, np.newaxis] >= 0, gradient, np.float32(0))
    chosen = np.maximum(labels, 0)[:, :, np.newaxis].astype(np.int64)
    # For the label's logit, not_p is exact where 1 - p would lose digits.
    at_label = slope * not_p[:, :, np.newaxis]
    np.put_along_axis(gradient, chosen, at_label.astype(np.float32), axis=2)
    return [gradient.reshape(logits.shape)]


def _sigmoid_in_python(name: str) -> PythonOperator:
    return PythonOperator(_sigmoid_forward(name), _sigmoid_backward(name), input_types=INPUT_TYPES)


register_loss(
    "SigmoidFocalLoss",
    sigmoid_focal_loss,
    DETECTRON,
    ("logits", "labels", "fg_num"),
    reference.sigmoid_focal_loss,
    reference.sigmoid_focal_loss_gradient,
    _sigmoid_in_python("SigmoidFocalLoss"),
)
register_loss(
    "WeightedSigmoidFocalLoss",
    weighted_sigmoid_focal_loss,
    LIBRA,
    ("logits", "labels", "fg_num", "weights"),
    reference.weighted_sigmoid_focal_loss,
    reference.weighted_sigmoid_focal_loss_gradient,
    _sigmoid_in_python("WeightedSigmoidFocalLoss"),
)
register(
    Operator(
        "SoftmaxFocalLoss",
        softmax_focal_loss,
        ("logits", "labels", "fg_num"),
        ("output", "prob"),
        reference_of(reference.softmax_focal_loss),
        reference_gradient_of(reference.softmax_focal_loss_gradient),
        DETECTRON,
        python=PythonOperator(_softmax_forward, _softmax_backward, input_types=INPUT_TYPES),
        differentiable_outputs=FIRST,
    )
)
