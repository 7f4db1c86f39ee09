"""Smooth L1 and balanced L1 losses.

Boxes are few beside feature maps, so these evaluate the float64 definitions themselves.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from detectron_ext.ops import reference
from detectron_ext.ops.python_operators.operator import (
    PythonOperator,
    require,
    require_map,
    require_scalar,
)

Check = Callable[[str, Sequence[np.ndarray]], Sequence[np.ndarray]]


def _dense_inputs(operator: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Check y_hat, y, alpha_in and alpha_out; return them all shaped as y_hat."""
    y_hat, *others = inputs
    require(y_hat.ndim >= 1, operator, "y_hat must have a first axis, not be a scalar")
    require(
        others[0].shape[:1] == y_hat.shape[:1],
        operator,
        f"y {others[0].shape} must have the first axis of y_hat {y_hat.shape}",
    )
    for name, other in zip(("y", "alpha_in", "alpha_out"), others):
        require(
            other.size == y_hat.size,
            operator,
            f"{name} {other.shape} must have the size of y_hat {y_hat.shape}",
        )
    return [y_hat, *(other.reshape(y_hat.shape) for other in others)]


def _select_inputs(operator: str, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Check y_hat, y, locations and fg_num."""
    y_hat, y, locations, fg_num = inputs
    require_map(operator, "y_hat", y_hat)
    require_scalar(operator, "fg_num", fg_num)
    if y.size == 0 and locations.size == 0:
        return [y_hat, y.reshape(0, 4), np.zeros((0, 4), np.float32), fg_num]
    for name, rows in (("y", y), ("locations", locations)):
        require(
            rows.ndim == 2 and rows.shape[1] == 4,
            operator,
            f"{name} must be (M, 4), not {rows.shape}",
        )
    require(
        y.shape == locations.shape,
        operator,
        f"y {y.shape} must have as many rows as locations {locations.shape}",
    )
    places = locations.astype(np.int64)
    limits = np.array(y_hat.shape) - [0, 3, 0, 0]
    require(
        bool((places >= 0).all() and (places < limits).all()),
        operator,
        f"locations {locations.shape} has a row outside y_hat {y_hat.shape}",
    )
    return inputs


def _loss_operator(name: str, check: Check, loss: Any, gradient: Any) -> PythonOperator:
    def forward(inputs: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
        return [loss(*check(name, inputs), **arguments)]

    def backward(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
        *inputs, _, d_loss = arrays
        return [gradient(*check(name, inputs), d_loss, **arguments)]

    return PythonOperator(forward, backward)


SMOOTH_L1_LOSS = _loss_operator(
    "SmoothL1Loss", _dense_inputs, reference.smooth_l1_loss, reference.smooth_l1_loss_gradient
)
BALANCED_L1_LOSS = _loss_operator(
    "BalancedL1Loss",
    _dense_inputs,
    reference.balanced_l1_loss,
    reference.balanced_l1_loss_gradient,
)
SELECT_SMOOTH_L1_LOSS = _loss_operator(
    "SelectSmoothL1Loss",
    _select_inputs,
    reference.select_smooth_l1_loss,
    reference.select_smooth_l1_loss_gradient,
)
SELECT_BALANCED_L1_LOSS = _loss_operator(
    "SelectBalancedL1Loss",
    _select_inputs,
    reference.select_balanced_l1_loss,
    reference.select_balanced_l1_loss_gradient,
)
