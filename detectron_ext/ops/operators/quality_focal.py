"""Quality focal loss: a sigmoid focal loss whose target is the quality of a positive.

Only the logits receive a gradient: the quality is a constant, also if it was computed from other
predictions. The Python operator treats every logit as a negative and then corrects the positives.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import (
    Blob,
    add_operator,
    require_integer,
    require_not_negative,
)
from detectron_ext.ops.input_checks import require, require_same_shape
from detectron_ext.ops.operators.focal_losses import (
    INPUT_TYPES,
    check_focal_inputs,
    loss_factor,
    positive_places,
    sigmoid_loss_terms,
    sigmoid_slope_terms,
    weighted_terms,
)
from detectron_ext.ops.operators.group_spatial_softmax import split_groups
from detectron_ext.ops.reference import quality_focal as reference
from detectron_ext.ops.table import LIBRA, PythonOperator, register_loss

_NAME = "QualityFocalLoss"


def quality_focal_loss(
    net: core.Net,
    logits: Blob,
    labels: Blob,
    fg_num: Blob,
    quality: Blob,
    output: Blob,
    *,
    beta: float = 2.0,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    scale: float = 1.0,
    num_classes: int = 80,
) -> core.BlobReference:
    """Add QualityFocalLoss: a focal loss whose target is the quality of a positive.

    The formula is equation 5 of Li et al., Generalized Focal Loss (arXiv:2006.04388):

        loss = scale / max(fg_num, 1) * sum over the anchors that are not ignored and over classes
            of -positive_weight |q - p|^beta (q log p + (1 - q) log(1 - p))
                                                       for the class of the anchor's label
            or -negative_weight p^beta log(1 - p)      for every other class

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32; the only input with a gradient.
        labels: (N, A, H, W) int32, as in `sigmoid_focal_loss`.
        fg_num: number of foreground anchors over all levels, one float32 value.
        quality: targets q of the positives, shaped as labels, float32, from 0 to 1 where the label
            is a class; not used elsewhere. The CPU rejects other qualities of a class, except NaN,
            which makes the loss NaN. CUDA does not check them.
        output: name of the loss, a scalar.
        beta: exponent, at least 0.
        positive_weight: factor of the terms of the anchors' own classes, at least 0.
        negative_weight: factor of the other terms, at least 0.
        scale: factor of the loss, at least 0.
        num_classes: classes of an anchor without the background, at least 1.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    numbers = {
        "beta": beta,
        "positive_weight": positive_weight,
        "negative_weight": negative_weight,
        "scale": scale,
    }
    require_not_negative(**numbers)
    require_integer("num_classes", num_classes, 1)
    arguments: dict[str, Any] = {name: float(number) for name, number in numbers.items()}
    inputs = [logits, labels, fg_num, quality]
    return add_operator(net, _NAME, inputs, [output], **arguments, num_classes=int(num_classes))


def _terms(
    inputs: Sequence[np.ndarray],
    num_classes: int,
    of_negatives: Callable[[np.ndarray], np.ndarray],
    of_positives: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the terms of all logits (N, A, K, H, W); 0 at ignored anchors.

    Args:
        inputs: logits, labels, fg_num and quality.
        num_classes: K.
        of_negatives: returns the terms of logits, given (N, A, K, H, W), as negatives.
        of_positives: returns the terms (P) of the positive logits, given (P) and qualities (P).
    """
    logits, labels, fg_num, quality = inputs
    check_focal_inputs(_NAME, [logits, labels, fg_num], num_classes, num_classes)
    require_same_shape(_NAME, "quality", quality, "labels", labels)
    n, a, k, y, x = places = positive_places(labels, num_classes)
    q = quality[n, a, y, x]
    require(
        not ((q < 0) | (q > 1)).any(),
        _NAME,
        f"quality {quality.shape} must be from 0 to 1 at foreground anchors",
    )
    groups = split_groups(logits, num_classes)
    terms = of_negatives(groups)
    terms[places] = of_positives(groups[places], q)
    return weighted_terms(terms, labels, ())


def _forward(
    inputs: Sequence[np.ndarray],
    *,
    beta: float,
    positive_weight: float,
    negative_weight: float,
    scale: float,
    num_classes: int,
) -> list[np.ndarray]:
    def of_positives(x: np.ndarray, q: np.ndarray) -> np.ndarray:
        x, q = x.astype(np.float64), q.astype(np.float64)
        return positive_weight * (
            np.abs(reference.distance_to_target(x, q)) ** beta * reference.cross_entropy(x, q)
        )

    losses = _terms(
        inputs,
        num_classes,
        lambda x: np.float32(negative_weight) * sigmoid_loss_terms(x, beta),
        of_positives,
    )
    return [loss_factor(inputs[2], scale) * losses.sum(dtype=np.float64)]


def _backward(
    arrays: Sequence[np.ndarray],
    *,
    beta: float,
    positive_weight: float,
    negative_weight: float,
    scale: float,
    num_classes: int,
) -> list[np.ndarray]:
    *inputs, _, d_loss = arrays

    def of_positives(x: np.ndarray, q: np.ndarray) -> np.ndarray:
        # The definition, with one anchor of one class for each positive.
        limit = np.finfo(np.float32).max  # so that slopes at infinite logits are finite
        columns = [part.reshape(-1, 1, 1, 1) for part in (np.clip(x, -limit, limit), q)]
        slopes = reference.quality_focal_loss_gradient(
            columns[0], np.ones(columns[0].shape, np.int32), 1.0, columns[1], 1.0,
            beta=beta, positive_weight=positive_weight, num_classes=1,
        )  # fmt: skip
        return slopes.ravel()

    slopes = _terms(
        inputs,
        num_classes,
        lambda x: np.float32(negative_weight) * sigmoid_slope_terms(x, beta),
        of_positives,
    )
    return [(slopes * (loss_factor(inputs[2], scale) * d_loss)).reshape(inputs[0].shape)]


register_loss(
    _NAME,
    quality_focal_loss,
    LIBRA,
    ("logits", "labels", "fg_num", "quality"),
    reference.quality_focal_loss,
    reference.quality_focal_loss_gradient,
    PythonOperator(_forward, _backward, input_types=INPUT_TYPES),
)
