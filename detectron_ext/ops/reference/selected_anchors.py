"""Numbers of single anchors, at selected places of maps: IoU, focal loss, scaled weights.

A place is a row (n, c, y, x), as in `box_losses.select_loss`. Channel c belongs to the anchor
c // channels.
"""

from __future__ import annotations

import math

import numpy as np

from detectron_ext.ops.reference.arrays import float64
from detectron_ext.ops.reference.focal_losses import LOG_OF_SMALLEST

__all__ = ["delta_box_iou", "scale_anchors", "select_box_iou", "select_sigmoid_focal_loss"]


def select_box_iou(
    y_hat: np.ndarray,
    y: np.ndarray,
    locations: np.ndarray,
    *,
    max_log_scale: float = math.log(1000 / 16),
) -> np.ndarray:
    """Return `delta_box_iou` of the predictions at places of a map.

    Args:
        y_hat: a map of predictions, (N, A * 4, H, W).
        y: targets, (M, 4).
        locations: (M, 4) rows (n, c, y, x); row m selects y_hat[n, c:c + 4, y, x].
        max_log_scale: largest predicted dw and dh.

    Returns:
        (M,), NaN where a delta is NaN.
    """
    n, c, row, column = _places(locations)
    channels = c[:, np.newaxis] + np.arange(4)
    expanded = (n[:, np.newaxis], channels, row[:, np.newaxis], column[:, np.newaxis])
    return delta_box_iou(float64(y_hat)[expanded], y, max_log_scale=max_log_scale)


def delta_box_iou(
    predicted: np.ndarray, true: np.ndarray, *, max_log_scale: float = math.log(1000 / 16)
) -> np.ndarray:
    """Return the IoU of predicted boxes with their targets.

    Both are deltas (dx, dy, dw, dh) of the same anchor. The anchor may be any box, because the IoU
    does not change if both boxes are moved and stretched alike. So it is the square of area 1
    around the origin.

    Args:
        predicted: (M, 4).
        true: (M, 4).
        max_log_scale: largest predicted dw and dh.

    Returns:
        (M,) float64, NaN where a delta is NaN.
    """
    predicted, true = float64(predicted), float64(true).reshape(-1, 4)
    broken = np.isnan(predicted).any(axis=1) | np.isnan(true).any(axis=1)
    bounded = np.concatenate((predicted[:, :2], np.minimum(predicted[:, 2:], max_log_scale)), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        common = np.prod([_common_length(bounded, true, axis) for axis in (0, 1)], axis=0)
        joined = np.exp(bounded[:, 2:].sum(axis=1)) + np.exp(true[:, 2:].sum(axis=1)) - common
        iou = np.minimum(np.divide(common, joined, out=np.zeros_like(common), where=common > 0), 1)
    return np.where(broken, np.nan, iou)


def _common_length(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    """Return the length, along an axis, that boxes with these deltas have in common, at least 0."""
    ends = [deltas[:, axis] + 0.5 * np.exp(deltas[:, 2 + axis]) for deltas in (a, b)]
    begins = [deltas[:, axis] - 0.5 * np.exp(deltas[:, 2 + axis]) for deltas in (a, b)]
    common = np.minimum(*ends) - np.maximum(*begins)
    return np.where(common > 0, common, 0.0)


def select_sigmoid_focal_loss(
    logits: np.ndarray,
    labels: np.ndarray,
    locations: np.ndarray,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    num_classes: int = 80,
    channels: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the focal loss of anchors, summed over classes, and the probability of their class.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W), from -1 (ignored) to num_classes.
        locations: (M, 4) rows (n, c, y, x).
        gamma: focusing exponent.
        alpha: weight of the class that is the label; the weight of the other classes is 1 - alpha.
        num_classes: classes of an anchor.
        channels: channels of an anchor in the column c.

    Returns:
        loss: (M,), the terms of `weighted_sigmoid_focal_loss` before the division by fg_num; 0 for
            an anchor that is ignored.
        probability: (M,), that of the class that is the label; 0 if the label is none.
    """
    n, c, row, column = _places(locations)
    anchor = c // channels
    images, _, height, width = np.shape(logits)
    split = float64(logits).reshape(images, -1, num_classes, height, width)
    x = split[n, anchor, :, row, column]
    label = np.asarray(labels)[n, anchor, row, column]
    positive = label[:, np.newaxis] == np.arange(1, num_classes + 1)
    log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    p, not_p = np.exp(log_p), np.exp(log_not_p)
    terms = np.where(
        positive,
        -alpha * not_p**gamma * np.maximum(log_p, LOG_OF_SMALLEST),
        -(1 - alpha) * p**gamma * log_not_p,
    )
    loss = np.where(label == -1, 0.0, terms.sum(axis=1))
    return loss, np.where(positive, p, 0.0).sum(axis=1)


def scale_anchors(
    weights: np.ndarray, factors: np.ndarray, locations: np.ndarray, *, channels: int = 4
) -> np.ndarray:
    """Return weights with those of selected anchors multiplied by factors.

    Args:
        weights: (N, A, H, W).
        factors: (M,).
        locations: (M, 4) rows (n, c, y, x). If several rows select an anchor, all of them count.
        channels: channels of an anchor in the column c.
    """
    n, c, row, column = _places(locations)
    scaled = float64(weights).copy()
    np.multiply.at(scaled, (n, c // channels, row, column), float64(factors).ravel())
    return scaled


def _places(locations: np.ndarray) -> np.ndarray:
    """Return the four index arrays (M,) of M locations."""
    return np.asarray(locations, np.int64).reshape(-1, 4).T
