"""Smooth L1 and balanced L1, over all elements or over selected places of a map.

A penalty is a function of x = |d|, where d is a difference. Its slope is the derivative with
respect to d; it is 0 at d = 0.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = [
    "balanced_l1",
    "balanced_l1_loss",
    "balanced_l1_loss_gradient",
    "balanced_l1_slope",
    "select_balanced_l1_loss",
    "select_balanced_l1_loss_gradient",
    "select_smooth_l1_loss",
    "select_smooth_l1_loss_gradient",
    "smooth_l1",
    "smooth_l1_loss",
    "smooth_l1_loss_gradient",
    "smooth_l1_slope",
    "weighted_select_balanced_l1_loss",
    "weighted_select_balanced_l1_loss_gradient",
    "weighted_select_smooth_l1_loss",
    "weighted_select_smooth_l1_loss_gradient",
]

Penalty = Callable[..., np.ndarray]


def smooth_l1(difference: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """Return d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    x = np.abs(difference)
    return np.where(x < beta, 0.5 * x * x / beta, x - 0.5 * beta)


def smooth_l1_slope(difference: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """Return d / beta where |d| < beta, else the sign of d."""
    return np.where(np.abs(difference) < beta, difference / beta, np.sign(difference))


def balanced_l1(
    difference: np.ndarray,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    formula: str = "continuous",
) -> np.ndarray:
    """Return Libra R-CNN's penalty (section 3.3), where b = exp(gamma / alpha) - 1.

    Args:
        difference: d, of any shape.
        alpha: factor of an inlier's slope.
        gamma: slope of an outlier.
        beta: |d| that separates inliers from outliers.
        formula: "continuous", whose value and slope have no jump for any beta, or "mmdet", which
            has beta at the places where mmdetection has it. At beta 1 both are the paper's formula.
    """
    x = np.abs(difference)
    b = np.expm1(gamma / alpha)
    offset, constant = _balanced_l1_terms(alpha, gamma, beta, b, formula)
    inlier = alpha / b * (b * x + offset) * np.log1p(b * x / beta) - alpha * x
    return np.where(x < beta, inlier, gamma * x + constant)


def _balanced_l1_terms(
    alpha: float, gamma: float, beta: float, b: float, formula: str
) -> tuple[float, float]:
    """Return the offset of b x and the outliers' constant, in which the formulas differ."""
    if formula == "mmdet":
        return 1.0, gamma / b - alpha * beta
    return beta, beta * (gamma / b - alpha)


def balanced_l1_slope(
    difference: np.ndarray,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    formula: str = "continuous",
) -> np.ndarray:
    """Return the derivative of `balanced_l1` with respect to the difference (equation 9).

    It is gamma for outliers. The parameters are those of `balanced_l1`.
    """
    x = np.abs(difference)
    b = np.expm1(gamma / alpha)
    inlier = alpha * np.log1p(b * x / beta)
    if formula == "mmdet":
        inlier = inlier + alpha * (b * x + 1) / (b * x + beta) - alpha
    return np.sign(difference) * np.where(x < beta, inlier, gamma)


def dense_loss(
    penalty: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    inside_weights: np.ndarray,
    outside_weights: np.ndarray,
    *,
    scale: float = 1.0,
    **arguments: Any,
) -> np.ndarray:
    """Return scale / N * sum(outside_weights * penalty(inside_weights * (y_hat - y))).

    Args:
        penalty: `smooth_l1` or `balanced_l1`.
        y_hat: predictions, (N, D...).
        y: targets, shaped as y_hat.
        inside_weights: weights of the differences, shaped as y_hat.
        outside_weights: weights of the penalties, shaped as y_hat.
        scale: factor of the loss.
        arguments: those of the penalty, such as beta.

    Returns:
        The loss, a scalar; 0 if N is 0.
    """
    difference, inside, outside = _differences(y_hat, y, inside_weights, outside_weights)
    losses = outside * penalty(inside * difference, **arguments)
    return scale / max(len(losses), 1) * losses.sum()


def dense_loss_gradient(
    slope: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    inside_weights: np.ndarray,
    outside_weights: np.ndarray,
    d_loss: np.ndarray | float,
    *,
    scale: float = 1.0,
    **arguments: Any,
) -> np.ndarray:
    """Return the gradient of `dense_loss` with respect to y_hat.

    `slope` is the derivative of the penalty, and `d_loss` the gradient of the loss, a scalar. The
    other parameters are those of `dense_loss`.
    """
    difference, inside, outside = _differences(y_hat, y, inside_weights, outside_weights)
    slopes = inside * outside * slope(inside * difference, **arguments)
    return float64(d_loss) * scale / max(len(slopes), 1) * slopes


def select_loss(
    penalty: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    locations: np.ndarray,
    fg_num: np.ndarray | float,
    *,
    scale: float = 1.0,
    **arguments: Any,
) -> np.ndarray:
    """Return scale / max(fg_num, 1) * sum over rows m of penalty(y_hat at m - y[m]).

    Args:
        penalty: `smooth_l1` or `balanced_l1`.
        y_hat: a map of predictions, (N, A * 4, H, W).
        y: targets, (M, 4).
        locations: (M, 4) rows (n, c, y, x); row m selects y_hat[n, c:c + 4, y, x].
        fg_num: number of foreground anchors, one number.
        scale: factor of the loss.
        arguments: those of the penalty, such as beta.

    Returns:
        The loss, a scalar; 0 if M is 0.
    """
    losses = penalty(float64(y_hat)[_places(locations)] - float64(y), **arguments)
    return scale / _normalizer(fg_num) * losses.sum()


def select_loss_gradient(
    slope: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    locations: np.ndarray,
    fg_num: np.ndarray | float,
    d_loss: np.ndarray | float,
    *,
    scale: float = 1.0,
    **arguments: Any,
) -> np.ndarray:
    """Return the gradient of `select_loss` with respect to y_hat.

    `slope` is the derivative of the penalty, and `d_loss` the gradient of the loss, a scalar. The
    other parameters are those of `select_loss`.
    """
    y_hat, places = float64(y_hat), _places(locations)
    slopes = slope(y_hat[places] - float64(y), **arguments)
    gradient = np.zeros_like(y_hat)
    np.add.at(gradient, places, float64(d_loss) * scale / _normalizer(fg_num) * slopes)
    return gradient


def weighted_select_loss(
    penalty: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    locations: np.ndarray,
    fg_num: np.ndarray | float,
    weights: np.ndarray,
    **arguments: Any,
) -> np.ndarray:
    """Return `select_loss` with the penalties of row m multiplied by weights[m], (M,)."""
    rows = float64(weights).reshape(-1, 1)
    return select_loss(
        lambda difference, **named: rows * penalty(difference, **named),
        y_hat, y, locations, fg_num, **arguments,
    )  # fmt: skip


def weighted_select_loss_gradient(
    slope: Penalty,
    y_hat: np.ndarray,
    y: np.ndarray,
    locations: np.ndarray,
    fg_num: np.ndarray | float,
    weights: np.ndarray,
    d_loss: np.ndarray | float,
    **arguments: Any,
) -> np.ndarray:
    """Return the gradient of `weighted_select_loss` with respect to y_hat."""
    rows = float64(weights).reshape(-1, 1)
    return select_loss_gradient(
        lambda difference, **named: rows * slope(difference, **named),
        y_hat, y, locations, fg_num, d_loss, **arguments,
    )  # fmt: skip


# The operators. A loss takes the inputs. A gradient takes the inputs and the gradient of the loss.
smooth_l1_loss = partial(dense_loss, smooth_l1)
smooth_l1_loss_gradient = partial(dense_loss_gradient, smooth_l1_slope)
balanced_l1_loss = partial(dense_loss, balanced_l1)
balanced_l1_loss_gradient = partial(dense_loss_gradient, balanced_l1_slope)
select_smooth_l1_loss = partial(select_loss, smooth_l1)
select_smooth_l1_loss_gradient = partial(select_loss_gradient, smooth_l1_slope)
select_balanced_l1_loss = partial(select_loss, balanced_l1)
select_balanced_l1_loss_gradient = partial(select_loss_gradient, balanced_l1_slope)
weighted_select_smooth_l1_loss = partial(weighted_select_loss, smooth_l1)
weighted_select_smooth_l1_loss_gradient = partial(weighted_select_loss_gradient, smooth_l1_slope)
weighted_select_balanced_l1_loss = partial(weighted_select_loss, balanced_l1)
weighted_select_balanced_l1_loss_gradient = partial(
    weighted_select_loss_gradient, balanced_l1_slope
)


def _differences(
    y_hat: np.ndarray, y: np.ndarray, inside_weights: np.ndarray, outside_weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return y_hat - y and both weights, as float64."""
    return float64(y_hat) - float64(y), float64(inside_weights), float64(outside_weights)


def _places(locations: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return index arrays, each (M, 4), of the four channels at each of M locations."""
    n, c, y, x = np.asarray(locations, np.int64).reshape(-1, 4).T[:, :, np.newaxis]
    return n, c + np.arange(4), y, x


def _normalizer(fg_num: np.ndarray | float) -> float:
    return max(float(np.squeeze(fg_num)), 1.0)
