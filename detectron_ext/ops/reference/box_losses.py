"""Smooth L1 and balanced L1, over all elements or over selected places of a map.

A penalty is a function of the difference d and acts on x = |d|; its slope is the derivative with
respect to d, 0 at d = 0.
"""

from __future__ import annotations

from functools import partial
from typing import Callable

import numpy as np

from detectron_ext.ops.reference.arrays import float64

Penalty = Callable[[np.ndarray], np.ndarray]


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
    """Return Libra R-CNN's penalty (section 3.3), with b = exp(gamma / alpha) - 1.

    "continuous" keeps value and slope free of jumps for every beta; "mmdet" is mmdetection's way
    of writing beta into the paper's formula. At beta 1 both are the paper's.
    """
    x = np.abs(difference)
    b = np.expm1(gamma / alpha)
    offset, constant = _balanced_l1_terms(alpha, gamma, beta, b, formula)
    inlier = alpha / b * (b * x + offset) * np.log1p(b * x / beta) - alpha * x
    return np.where(x < beta, inlier, gamma * x + constant)


def _balanced_l1_terms(
    alpha: float, gamma: float, beta: float, b: float, formula: str
) -> tuple[float, float]:
    """Return what the two formulas differ in: the offset of b x, and the outliers' constant."""
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
    """Return the derivative of `balanced_l1`, as its equation 8 bounds it: gamma for outliers."""
    x = np.abs(difference)
    b = np.expm1(gamma / alpha)
    inlier = alpha * np.log1p(b * x / beta)
    if formula == "mmdet":
        inlier = inlier + alpha * (b * x + 1) / (b * x + beta) - alpha
    return np.sign(difference) * np.where(x < beta, inlier, gamma)


def smooth_l1_loss(y_hat, y, alpha_in, alpha_out, *, beta=1.0, scale=1.0) -> np.ndarray:
    """Return scale / N * sum(alpha_out * smooth_l1(alpha_in * (y_hat - y))); 0 where N is 0."""
    return dense_loss(partial(smooth_l1, beta=beta), y_hat, y, alpha_in, alpha_out, scale)


def smooth_l1_loss_gradient(
    y_hat, y, alpha_in, alpha_out, d_loss, *, beta=1.0, scale=1.0
) -> np.ndarray:
    """Return the gradient of `smooth_l1_loss` with respect to y_hat."""
    slope = partial(smooth_l1_slope, beta=beta)
    return dense_loss_gradient(slope, y_hat, y, alpha_in, alpha_out, scale, d_loss)


def balanced_l1_loss(y_hat, y, alpha_in, alpha_out, *, scale=1.0, **penalty) -> np.ndarray:
    """Return `smooth_l1_loss` with `balanced_l1` as the penalty, whose arguments are `penalty`."""
    return dense_loss(partial(balanced_l1, **penalty), y_hat, y, alpha_in, alpha_out, scale)


def balanced_l1_loss_gradient(
    y_hat, y, alpha_in, alpha_out, d_loss, *, scale=1.0, **penalty
) -> np.ndarray:
    """Return the gradient of `balanced_l1_loss` with respect to y_hat."""
    slope = partial(balanced_l1_slope, **penalty)
    return dense_loss_gradient(slope, y_hat, y, alpha_in, alpha_out, scale, d_loss)


def select_smooth_l1_loss(y_hat, y, locations, fg_num, *, beta=1.0, scale=1.0) -> np.ndarray:
    """Return scale / max(fg_num, 1) * sum over rows m of smooth_l1(y_hat at m - y[m]).

    Row m of `locations` is (n, c, y, x): it selects y_hat[n, c:c + 4, y, x].
    """
    return select_loss(partial(smooth_l1, beta=beta), y_hat, y, locations, fg_num, scale)


def select_smooth_l1_loss_gradient(
    y_hat, y, locations, fg_num, d_loss, *, beta=1.0, scale=1.0
) -> np.ndarray:
    """Return the gradient of `select_smooth_l1_loss` with respect to y_hat."""
    slope = partial(smooth_l1_slope, beta=beta)
    return select_loss_gradient(slope, y_hat, y, locations, fg_num, scale, d_loss)


def select_balanced_l1_loss(y_hat, y, locations, fg_num, *, scale=1.0, **penalty) -> np.ndarray:
    """Return `select_smooth_l1_loss` with `balanced_l1` as the penalty."""
    return select_loss(partial(balanced_l1, **penalty), y_hat, y, locations, fg_num, scale)


def select_balanced_l1_loss_gradient(
    y_hat, y, locations, fg_num, d_loss, *, scale=1.0, **penalty
) -> np.ndarray:
    """Return the gradient of `select_balanced_l1_loss` with respect to y_hat."""
    slope = partial(balanced_l1_slope, **penalty)
    return select_loss_gradient(slope, y_hat, y, locations, fg_num, scale, d_loss)


def dense_loss(penalty: Penalty, y_hat, y, alpha_in, alpha_out, scale: float) -> np.ndarray:
    """Return scale / N * sum(alpha_out * penalty(alpha_in * (y_hat - y))), N the rows of y."""
    y_hat, y, alpha_in, alpha_out = (float64(a) for a in (y_hat, y, alpha_in, alpha_out))
    losses = alpha_out * penalty(alpha_in * (y_hat - y))
    return scale / max(len(y), 1) * losses.sum()


def dense_loss_gradient(
    slope: Penalty, y_hat, y, alpha_in, alpha_out, scale: float, d_loss
) -> np.ndarray:
    """Return the gradient of `dense_loss` with respect to y_hat; ``slope`` is the penalty's."""
    y_hat, y, alpha_in, alpha_out = (float64(a) for a in (y_hat, y, alpha_in, alpha_out))
    slopes = alpha_in * alpha_out * slope(alpha_in * (y_hat - y))
    return float64(d_loss) * scale / max(len(y), 1) * slopes


def _places(locations) -> tuple[np.ndarray, ...]:
    """Return index arrays, each (M, 4), of the four channels at each of M locations."""
    n, c, y, x = np.asarray(locations, np.int64).reshape(-1, 4).T[:, :, np.newaxis]
    return n, c + np.arange(4), y, x


def select_loss(penalty: Penalty, y_hat, y, locations, fg_num, scale: float) -> np.ndarray:
    """Return scale / max(fg_num, 1) * sum of penalty(y_hat at the locations - y)."""
    y_hat, y = float64(y_hat), float64(y)
    losses = penalty(y_hat[_places(locations)] - y)
    return scale / max(float(np.squeeze(fg_num)), 1.0) * losses.sum()


def select_loss_gradient(
    slope: Penalty, y_hat, y, locations, fg_num, scale: float, d_loss
) -> np.ndarray:
    """Return the gradient of `select_loss` with respect to y_hat; ``slope`` is the penalty's."""
    y_hat, y = float64(y_hat), float64(y)
    places = _places(locations)
    gradient = np.zeros_like(y_hat)
    slopes = slope(y_hat[places] - y)
    factor = float64(d_loss) * scale / max(float(np.squeeze(fg_num)), 1.0)
    np.add.at(gradient, places, factor * slopes)
    return gradient
