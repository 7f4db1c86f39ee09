"""Losses of boxes and classes, each a scalar that AddGradientOperators can start from.

Only the prediction (the first input) receives a gradient. All tensors are float32 but `labels`,
which are int32; maps are NCHW.
"""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator, require_not_negative
from detectron_ext.ops.loss_arguments import (
    balanced_l1_arguments,
    focal_arguments,
    smooth_l1_arguments,
)


def smooth_l1_loss(
    net: core.Net,
    y_hat: Any,
    y: Any,
    alpha_in: Any,
    alpha_out: Any,
    output: Any,
    *,
    beta: float = 1.0,
    scale: float = 1.0,
) -> core.BlobReference:
    """Add Detectron's SmoothL1Loss (Fast R-CNN, section 2.3).

    loss = scale / N * sum(alpha_out * smooth_l1(alpha_in * (y_hat - y)))

    Args:
        y_hat, y: predicted and true regression values, both (N, D...).
        alpha_in, alpha_out: weights inside and outside the penalty, shaped as y.
        beta: |difference| at which the penalty turns from quadratic to linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss, a scalar; 0 where N is 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = smooth_l1_arguments(beta, scale)
    inputs = [y_hat, y, alpha_in, alpha_out]
    return add_operator(net, "SmoothL1Loss", inputs, [output], **arguments)


def select_smooth_l1_loss(
    net: core.Net,
    y_hat: Any,
    y: Any,
    locations: Any,
    fg_num: Any,
    output: Any,
    *,
    beta: float = 1.0,
    scale: float = 1.0,
) -> core.BlobReference:
    """Add Detectron's SelectSmoothL1Loss: smooth L1 at M places of a map of predictions.

    Args:
        y_hat: predicted deltas (N, A * 4, H, W).
        y: true deltas (M, 4).
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3. On CUDA,
            where this is Detectron's own operator, no two rows may select the same place.
        fg_num: number of foreground anchors over all levels, one value; divides the loss where it
            is above 1.
        beta: |difference| at which the penalty turns from quadratic to linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss, a scalar; 0 where M is 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = smooth_l1_arguments(beta, scale)
    inputs = [y_hat, y, locations, fg_num]
    return add_operator(net, "SelectSmoothL1Loss", inputs, [output], **arguments)


def balanced_l1_loss(
    net: core.Net,
    y_hat: Any,
    y: Any,
    alpha_in: Any,
    alpha_out: Any,
    output: Any,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    scale: float = 1.0,
    formula: str = "continuous",
) -> core.BlobReference:
    """Add BalancedL1Loss (Libra R-CNN, section 3.3, equations 8 to 10) in place of SmoothL1Loss.

    Args:
        y_hat, y, alpha_in, alpha_out, scale: as in `smooth_l1_loss`.
        alpha: share of the inliers in the gradient (smaller gives them more), above 0.
        gamma: bound of the gradient of an outlier, above 0 and at most 60 times alpha.
        beta: |difference| that parts inliers from outliers, above 0.
        formula: "continuous", whose value and slope have no jump for any beta, or "mmdet",
            mmdetection's. The two are equal at beta 1; below it "mmdet" has a slope of
            alpha * (1 / beta - 1) at 0.

    Returns:
        The loss, a scalar; 0 where N is 0.

    Raises:
        ValueError: an argument is out of its range, or alpha, gamma and beta are too far apart for
            single precision.
    """
    arguments = balanced_l1_arguments(alpha, gamma, beta, scale, formula)
    inputs = [y_hat, y, alpha_in, alpha_out]
    return add_operator(net, "BalancedL1Loss", inputs, [output], **arguments)


def select_balanced_l1_loss(
    net: core.Net,
    y_hat: Any,
    y: Any,
    locations: Any,
    fg_num: Any,
    output: Any,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    scale: float = 1.0,
    formula: str = "continuous",
) -> core.BlobReference:
    """Add SelectBalancedL1Loss: balanced L1 at M places of a map of predictions.

    Inputs and normalisation are those of `select_smooth_l1_loss`, arguments those of
    `balanced_l1_loss`. Rows that select the same place all count.

    Returns:
        The loss, a scalar; 0 where M is 0.

    Raises:
        ValueError: as `balanced_l1_loss`.
    """
    arguments = balanced_l1_arguments(alpha, gamma, beta, scale, formula)
    inputs = [y_hat, y, locations, fg_num]
    return add_operator(net, "SelectBalancedL1Loss", inputs, [output], **arguments)


def sigmoid_focal_loss(
    net: core.Net,
    logits: Any,
    labels: Any,
    fg_num: Any,
    output: Any,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> core.BlobReference:
    """Add Detectron's SigmoidFocalLoss (Focal Loss for Dense Object Detection, section 3).

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W) int32; 0 is background, 1 to num_classes a class, -1 ignored. Others
            are refused on the CPU; CUDA does not check and takes them for background.
        fg_num: number of foreground anchors over all levels, one value; divides the loss where it
            is above 1.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, in [0, 1]; the background's is 1 - alpha.
        scale: factor of the loss, at least 0.
        num_classes: classes an anchor, background not counted.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 1)
    return add_operator(net, "SigmoidFocalLoss", [logits, labels, fg_num], [output], **arguments)


def weighted_sigmoid_focal_loss(
    net: core.Net,
    logits: Any,
    labels: Any,
    fg_num: Any,
    weights: Any,
    output: Any,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 80,
) -> core.BlobReference:
    """Add WeightedSigmoidFocalLoss: `sigmoid_focal_loss` with a weight for every anchor.

    Args:
        weights: (N, A, H, W) float32, shaped as labels.
        logits, labels, fg_num, gamma, alpha, scale, num_classes: as in `sigmoid_focal_loss`.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 1)
    inputs = [logits, labels, fg_num, weights]
    return add_operator(net, "WeightedSigmoidFocalLoss", inputs, [output], **arguments)


def softmax_focal_loss(
    net: core.Net,
    logits: Any,
    labels: Any,
    fg_num: Any,
    output: Any,
    prob: Any = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    scale: float = 1.0,
    num_classes: int = 81,
) -> tuple[core.BlobReference, core.BlobReference]:
    """Add Detectron's SoftmaxFocalLoss: the focal loss of one softmax an anchor.

    Args:
        logits: (N, A * num_classes, H, W); class 0 of each anchor is the background.
        labels: (N, A, H, W) int32; 0 to num_classes - 1, or -1 for ignored. Others are refused on
            the CPU; CUDA does not check.
        fg_num, gamma, alpha, scale: as in `sigmoid_focal_loss`.
        output: name of the loss.
        prob: name of the probabilities; by default `output` with "_prob" at its end.
        num_classes: classes an anchor, background counted, at least 2.

    Returns:
        (loss, prob): the loss, a scalar, and the probabilities, one for each logit.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, scale, num_classes, 2)
    outputs = [output, output + "_prob" if prob is None else prob]
    return add_operator(net, "SoftmaxFocalLoss", [logits, labels, fg_num], outputs, **arguments)


def sigmoid_cross_entropy_loss(
    net: core.Net,
    logits: Any,
    targets: Any,
    output: Any,
    *,
    scale: float = 1.0,
    normalize: bool = True,
) -> core.BlobReference:
    """Add Detectron's SigmoidCrossEntropyLoss: the log loss of independent yes-or-no questions.

    Args:
        logits: any shape.
        targets: int32, as many: 1, 0, or -1 for ignored.
        scale: factor of the loss, at least 0.
        normalize: divide by the number of targets that are not ignored; else the loss is the sum.

    Returns:
        The loss, a scalar; 0 where all targets are ignored.

    Raises:
        ValueError: an argument is out of its range.
    """
    require_not_negative(scale=scale)
    arguments = {"scale": float(scale), "normalize": int(normalize)}
    return add_operator(net, "SigmoidCrossEntropyLoss", [logits, targets], [output], **arguments)
