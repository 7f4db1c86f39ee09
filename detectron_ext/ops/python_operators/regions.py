"""Pooling of regions, narrowing of maps and the RPN's log loss: the definitions themselves."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops import reference
from detectron_ext.ops.python_operators.operator import (
    FIRST,
    FLOAT,
    INTEGER,
    NUMBER,
    PythonOperator,
    require,
    require_map,
)


def _check_targets(inputs):
    logits, targets = inputs
    require(
        logits.size == targets.size,
        "SigmoidCrossEntropyLoss",
        f"targets {targets.shape} must be as many as logits {logits.shape}",
    )
    return logits, targets.reshape(logits.shape)


def _cross_entropy(inputs, **arguments) -> list[np.ndarray]:
    return [reference.sigmoid_cross_entropy_loss(*_check_targets(inputs), **arguments)]


def _cross_entropy_gradient(arrays, **arguments) -> list[np.ndarray]:
    logits, targets, _, d_loss = arrays
    logits, targets = _check_targets([logits, targets])
    return [reference.sigmoid_cross_entropy_loss_gradient(logits, targets, d_loss, **arguments)]


def _narrow(inputs) -> list[np.ndarray]:
    a, b = inputs
    require_map("SpatialNarrowAs", "a", a)
    require(
        b.ndim in (3, 4)
        and b.shape[:-2] == a.shape[: b.ndim - 2]
        and b.shape[-2] <= a.shape[2]
        and b.shape[-1] <= a.shape[3],
        "SpatialNarrowAs",
        f"a {a.shape} cannot be narrowed to b {b.shape}",
    )
    return [reference.spatial_narrow_as(a, b)]


def _narrow_gradient(arrays) -> list[np.ndarray]:
    a, b, _, d_c = arrays
    return [reference.spatial_narrow_as_gradient(a, b, d_c)]


def _regions(rois: np.ndarray) -> np.ndarray:
    """Return rois; those of an image without any, whatever their shape, as (0, 5)."""
    return rois if rois.size else rois.reshape(0, 5)


def _pool(inputs, **arguments) -> list[np.ndarray]:
    x, rois = inputs[0], _regions(inputs[1])
    require_map("RoIPoolF", "x", x)
    require(
        rois.ndim == 2 and rois.shape[1] == 5,
        "RoIPoolF",
        f"rois must be (R, 5), not {rois.shape}",
    )
    require(
        bool((rois[:, 0] > -1).all() and (rois[:, 0] < len(x)).all() and np.isfinite(rois).all()),
        "RoIPoolF",
        f"rois {rois.shape} has a row that names no image of x {x.shape} or is not finite",
    )
    return list(reference.roi_max_pool(x, rois, **arguments))


def _pool_gradient(arrays, **arguments) -> list[np.ndarray]:
    x, rois, _, argmax, d_maxima = arrays
    return [reference.roi_max_pool_gradient(x, _regions(rois), argmax, d_maxima)]


SIGMOID_CROSS_ENTROPY_LOSS = PythonOperator(
    _cross_entropy, _cross_entropy_gradient, input_types=(FLOAT, INTEGER)
)
SPATIAL_NARROW_AS = PythonOperator(_narrow, _narrow_gradient, input_types=(NUMBER,))
ROI_POOL_F = PythonOperator(_pool, _pool_gradient, differentiable_outputs=FIRST)
