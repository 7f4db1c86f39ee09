"""Smooth L1 and balanced L1 losses: over rows of boxes, or at selected places of a map.

Each loss is a scalar. Only the prediction receives a gradient. The Python operators evaluate
the float64 definitions, since boxes are few compared with the elements of feature maps.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.input_checks import require, require_map, require_scalar
from detectron_ext.ops.loss_arguments import balanced_l1_arguments, smooth_l1_arguments
from detectron_ext.ops.reference import box_losses as reference
from detectron_ext.ops.table import DETECTRON, LIBRA, PythonOperator, register_loss


def smooth_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    inside_weights: Blob,
    outside_weights: Blob,
    output: Blob,
    *,
    beta: float = 1.0,
    scale: float = 1.0,
) -> core.BlobReference:
    """Add Detectron's SmoothL1Loss: smooth L1 over rows of boxes (Fast R-CNN, section 2.3).

        loss = scale / N * sum(outside_weights * smooth_l1(inside_weights * (y_hat - y)))

    Args:
        net: the net to add to.
        y_hat: predicted regression values, (N, D...) float32; the only input with a gradient.
        y: true regression values, shaped as y_hat.
        inside_weights: weights of the differences, shaped as y_hat; alpha_in in Detectron.
        outside_weights: weights of the penalties, shaped as y_hat; alpha_out in Detectron.
        output: name of the loss, a scalar; 0 if N is 0.
        beta: absolute difference at which the penalty turns from quadratic to linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = smooth_l1_arguments(beta, scale)
    inputs = [y_hat, y, inside_weights, outside_weights]
    return add_operator(net, "SmoothL1Loss", inputs, [output], **arguments)


def balanced_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    inside_weights: Blob,
    outside_weights: Blob,
    output: Blob,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    scale: float = 1.0,
    formula: str = "continuous",
) -> core.BlobReference:
    """Add BalancedL1Loss: balanced L1 over rows of boxes (Libra R-CNN, section 3.3).

        loss = scale / N * sum(outside_weights * balanced_l1(inside_weights * (y_hat - y)))

    Args:
        net: the net to add to.
        y_hat: predicted regression values, (N, D...) float32; the only input with a gradient.
        y: true regression values, shaped as y_hat.
        inside_weights: weights of the differences, shaped as y_hat.
        outside_weights: weights of the penalties, shaped as y_hat.
        output: name of the loss, a scalar; 0 if N is 0.
        alpha: factor of an inlier's gradient, above 0. A smaller alpha gives inliers a larger
            gradient, since the gradient at beta stays gamma.
        gamma: gradient of an outlier, above 0 and at most 60 times alpha.
        beta: absolute difference that separates inliers from outliers, above 0.
        scale: factor of the loss, at least 0.
        formula: "continuous" or "mmdet". Value and gradient of "continuous" have no jump for any
            beta. "mmdet" is the formula of mmdetection. The two are equal at beta 1. At a smaller
            beta the gradient of "mmdet" jumps to alpha * (1 / beta - 1) at 0.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range, or single precision cannot hold the
            coefficients that follow from alpha, gamma and beta.
    """
    arguments = balanced_l1_arguments(alpha, gamma, beta, scale, formula)
    inputs = [y_hat, y, inside_weights, outside_weights]
    return add_operator(net, "BalancedL1Loss", inputs, [output], **arguments)


def select_smooth_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    locations: Blob,
    fg_num: Blob,
    output: Blob,
    *,
    beta: float = 1.0,
    scale: float = 1.0,
) -> core.BlobReference:
    """Add Detectron's SelectSmoothL1Loss: smooth L1 at M places of a map of predictions.

        loss = scale / max(fg_num, 1) * sum_m smooth_l1(y_hat[n, c:c + 4, y, x] - y[m])

    Args:
        net: the net to add to.
        y_hat: predicted deltas, (N, A * 4, H, W) float32; the only input with a gradient.
        y: true deltas, (M, 4) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3. On CUDA,
            where this is Detectron's own operator, no two rows may select the same place.
        fg_num: number of foreground anchors over all levels, one float32 value.
        output: name of the loss, a scalar; 0 if M is 0.
        beta: absolute difference at which the penalty turns from quadratic to linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = smooth_l1_arguments(beta, scale)
    inputs = [y_hat, y, locations, fg_num]
    return add_operator(net, "SelectSmoothL1Loss", inputs, [output], **arguments)


def select_balanced_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    locations: Blob,
    fg_num: Blob,
    output: Blob,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    scale: float = 1.0,
    formula: str = "continuous",
) -> core.BlobReference:
    """Add SelectBalancedL1Loss: balanced L1 at M places of a map of predictions.

        loss = scale / max(fg_num, 1) * sum_m balanced_l1(y_hat[n, c:c + 4, y, x] - y[m])

    Args:
        net: the net to add to.
        y_hat: predicted deltas, (N, A * 4, H, W) float32; the only input with a gradient.
        y: true deltas, (M, 4) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3. If
            several rows select the same place, all of them count.
        fg_num: number of foreground anchors over all levels, one float32 value.
        output: name of the loss, a scalar; 0 if M is 0.
        alpha: factor of an inlier's gradient, as in `balanced_l1_loss`.
        gamma: gradient of an outlier, above 0 and at most 60 times alpha.
        beta: absolute difference that separates inliers from outliers, above 0.
        scale: factor of the loss, at least 0.
        formula: "continuous" or "mmdet", as in `balanced_l1_loss`.

    Returns:
        The loss.

    Raises:
        ValueError: as in `balanced_l1_loss`.
    """
    arguments = balanced_l1_arguments(alpha, gamma, beta, scale, formula)
    inputs = [y_hat, y, locations, fg_num]
    return add_operator(net, "SelectBalancedL1Loss", inputs, [output], **arguments)


def weighted_select_smooth_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    locations: Blob,
    fg_num: Blob,
    weights: Blob,
    output: Blob,
    *,
    beta: float = 1.0,
    scale: float = 1.0,
) -> core.BlobReference:
    """Add WeightedSelectSmoothL1Loss: `select_smooth_l1_loss` with a weight for every row.

    Args:
        net: the net to add to.
        y_hat: predicted deltas, (N, A * 4, H, W) float32; the only input with a gradient.
        y: true deltas, (M, 4) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3. If
            several rows select the same place, all of them count.
        fg_num: number of foreground anchors over all levels, one float32 value.
        weights: factors of the rows' penalties, (M,) float32.
        output: name of the loss, a scalar; 0 if M is 0.
        beta: absolute difference at which the penalty turns from quadratic to linear, above 0.
        scale: factor of the loss, at least 0.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = smooth_l1_arguments(beta, scale)
    inputs = [y_hat, y, locations, fg_num, weights]
    return add_operator(net, "WeightedSelectSmoothL1Loss", inputs, [output], **arguments)


def weighted_select_balanced_l1_loss(
    net: core.Net,
    y_hat: Blob,
    y: Blob,
    locations: Blob,
    fg_num: Blob,
    weights: Blob,
    output: Blob,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    scale: float = 1.0,
    formula: str = "continuous",
) -> core.BlobReference:
    """Add WeightedSelectBalancedL1Loss: `select_balanced_l1_loss` with a weight for every row.

    Args:
        net: the net to add to.
        y_hat: predicted deltas, (N, A * 4, H, W) float32; the only input with a gradient.
        y: true deltas, (M, 4) float32.
        locations: (M, 4) float32 rows (n, c, y, x); row m selects channels c to c + 3. If
            several rows select the same place, all of them count.
        fg_num: number of foreground anchors over all levels, one float32 value.
        weights: factors of the rows' penalties, (M,) float32.
        output: name of the loss, a scalar; 0 if M is 0.
        alpha: factor of an inlier's gradient, as in `balanced_l1_loss`.
        gamma: gradient of an outlier, above 0 and at most 60 times alpha.
        beta: absolute difference that separates inliers from outliers, above 0.
        scale: factor of the loss, at least 0.
        formula: "continuous" or "mmdet", as in `balanced_l1_loss`.

    Returns:
        The loss.

    Raises:
        ValueError: as in `balanced_l1_loss`.
    """
    arguments = balanced_l1_arguments(alpha, gamma, beta, scale, formula)
    inputs = [y_hat, y, locations, fg_num, weights]
    return add_operator(net, "WeightedSelectBalancedL1Loss", inputs, [output], **arguments)


def _dense_inputs(operator: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Check the inputs of a loss over rows; return them all shaped as y_hat."""
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
    """Check the inputs of a loss at selected places and return them."""
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


def _weighted_select_inputs(operator: str, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Check the inputs of a loss at selected places with weights and return them."""
    *others, weights = inputs
    checked = _select_inputs(operator, others)
    require(
        weights.size == len(checked[2]),
        operator,
        f"weights {weights.shape} must be one number for each row of y {checked[1].shape}",
    )
    return [*checked, weights]


_DENSE = ("y_hat", "y", "inside_weights", "outside_weights")
_SELECT = ("y_hat", "y", "locations", "fg_num")
_WEIGHTED = (*_SELECT, "weights")
_CHECKS: dict[tuple[str, ...], Callable[[str, Sequence[np.ndarray]], Sequence[np.ndarray]]] = {
    _DENSE: _dense_inputs,
    _SELECT: _select_inputs,
    _WEIGHTED: _weighted_select_inputs,
}


def _register(
    name: str,
    front_end: Callable[..., Any],
    library: str,
    inputs: tuple[str, ...],
    loss: Callable[..., np.ndarray],
    gradient: Callable[..., np.ndarray],
) -> None:
    """Register a box loss; the arguments are those of `register_loss`, inputs a key of _CHECKS."""
    check = _CHECKS[inputs]

    def forward(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
        return [loss(*check(name, arrays), **arguments)]

    def backward(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
        *given, _, d_loss = arrays
        return [gradient(*check(name, given), d_loss, **arguments)]

    python = PythonOperator(forward, backward)
    register_loss(name, front_end, library, inputs, loss, gradient, python)


_register(
    "SmoothL1Loss", smooth_l1_loss, DETECTRON, _DENSE,
    reference.smooth_l1_loss, reference.smooth_l1_loss_gradient,
)  # fmt: skip
_register(
    "BalancedL1Loss", balanced_l1_loss, LIBRA, _DENSE,
    reference.balanced_l1_loss, reference.balanced_l1_loss_gradient,
)  # fmt: skip
_register(
    "SelectSmoothL1Loss", select_smooth_l1_loss, DETECTRON, _SELECT,
    reference.select_smooth_l1_loss, reference.select_smooth_l1_loss_gradient,
)  # fmt: skip
_register(
    "SelectBalancedL1Loss", select_balanced_l1_loss, LIBRA, _SELECT,
    reference.select_balanced_l1_loss, reference.select_balanced_l1_loss_gradient,
)  # fmt: skip
_register(
    "WeightedSelectSmoothL1Loss", weighted_select_smooth_l1_loss, LIBRA, _WEIGHTED,
    reference.weighted_select_smooth_l1_loss, reference.weighted_select_smooth_l1_loss_gradient,
)  # fmt: skip
_register(
    "WeightedSelectBalancedL1Loss", weighted_select_balanced_l1_loss, LIBRA, _WEIGHTED,
    reference.weighted_select_balanced_l1_loss,
    reference.weighted_select_balanced_l1_loss_gradient,
)  # fmt: skip
