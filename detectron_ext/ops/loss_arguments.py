"""Checks and converts the arguments of the losses.

The checks are those of the native operators. The conversions are needed because Caffe2 rejects an
integer for an argument that an operator reads as a float.
"""

from __future__ import annotations

import math
from typing import Any

from detectron_ext.limits import MAX_BALANCED_L1_EXPONENT
from detectron_ext.ops.frontend import (
    require_choice,
    require_integer,
    require_not_negative,
    require_positive,
    single,
)

FORMULAS = ("continuous", "mmdet")


def smooth_l1_arguments(beta: float, scale: float) -> dict[str, Any]:
    """Return the arguments of a smooth L1 loss; raise ValueError for one out of its range."""
    require_positive(beta=beta)
    require_not_negative(scale=scale)
    return {"beta": float(beta), "scale": float(scale)}


def balanced_l1_arguments(
    alpha: float, gamma: float, beta: float, scale: float, formula: str
) -> dict[str, Any]:
    """Return the arguments of a balanced L1 loss as the operator takes them.

    Args:
        alpha: factor of an inlier's gradient, above 0.
        gamma: gradient of an outlier, above 0 and at most 60 times alpha.
        beta: absolute difference that separates inliers from outliers, above 0.
        scale: factor of the loss, at least 0.
        formula: one of FORMULAS.

    Raises:
        ValueError: an argument is out of its range, or single precision cannot hold the
            coefficients that follow from alpha, gamma and beta.
    """
    require_positive(alpha=alpha, gamma=gamma)
    require_choice("formula", formula, FORMULAS)
    arguments = smooth_l1_arguments(beta, scale)
    _require_single_precision(single(alpha), single(gamma), single(beta), formula)
    return {"alpha": float(alpha), "gamma": float(gamma), "formula": formula, **arguments}


def _require_single_precision(alpha: float, gamma: float, beta: float, formula: str) -> None:
    """Raise ValueError if float32 cannot hold balanced L1's coefficients (balanced_l1.h)."""
    if gamma > MAX_BALANCED_L1_EXPONENT * alpha:
        most = f"at most {MAX_BALANCED_L1_EXPONENT} times alpha ({alpha:g})"
        raise ValueError(f"gamma must be {most}, not {gamma:g}")
    b = math.expm1(gamma / alpha)
    shift = 1 - beta if formula == "mmdet" else 0.0
    inner = single(b / beta)
    coefficients = (inner, single(alpha * beta / b), single(alpha * shift / b))
    if inner == 0 or not all(map(math.isfinite, coefficients)):
        raise ValueError(
            f"alpha ({alpha:g}), gamma ({gamma:g}) and beta ({beta:g}) are too far apart for "
            "single precision"
        )


def focal_arguments(
    gamma: float, alpha: float, scale: float, num_classes: int, min_classes: int
) -> dict[str, Any]:
    """Return the arguments of a focal loss as the operator takes them.

    Args:
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1.
        scale: factor of the loss, at least 0.
        num_classes: classes of an anchor, at least min_classes.
        min_classes: 1 for a sigmoid loss, 2 for a softmax loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    require_not_negative(gamma=gamma, scale=scale)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha!r}")
    require_integer("num_classes", num_classes, min_classes)
    return {
        "gamma": float(gamma),
        "alpha": float(alpha),
        "scale": float(scale),
        "num_classes": int(num_classes),
    }
