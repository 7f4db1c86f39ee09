"""Losses of boxes and classes, at the sizes of RetinaNet on 800 x 1344 images."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict

import numpy as np

from detectron_ext import ops
from detectron_ext.benchmarks import pytorch_formulas as eager
from detectron_ext.benchmarks.operator_case import OperatorCase, normal

Inputs = Dict[str, np.ndarray]

_LEVEL = (100, 168)  # height and width of P3
_ANCHORS = 9


def loss_cases(rng: np.random.Generator) -> list[OperatorCase]:
    """Return the cases of every loss."""
    return [*_dense_cases(rng), *_select_cases(rng), *_focal_cases(rng), *_entropy_cases(rng)]


def _dense_cases(rng: np.random.Generator) -> list[OperatorCase]:
    rows = 1_048_576
    inputs = {
        "y_hat": normal(rng, rows, 4),
        "y": normal(rng, rows, 4),
        "inside_weights": rng.random((rows, 4), dtype=np.float32),
        "outside_weights": rng.random((rows, 4), dtype=np.float32),
    }
    balanced, smooth = (
        partial(eager.dense_loss, penalty)
        for penalty in (eager.balanced_l1_penalty, eager.smooth_l1_penalty)
    )
    size = f"{rows:,} x 4"
    return [
        _loss_case("BalancedL1Loss", size, inputs, ops.balanced_l1_loss, balanced),
        _loss_case("SmoothL1Loss", size, inputs, ops.smooth_l1_loss, smooth),
    ]


def _select_cases(rng: np.random.Generator) -> list[OperatorCase]:
    images, rows, beta = 2, 2000, 0.11
    shape = (images, _ANCHORS, *_LEVEL)
    places = rng.choice(int(np.prod(shape)), rows, replace=False)
    locations = np.stack(np.unravel_index(places, shape), axis=1).astype(np.float32)
    locations[:, 1] *= 4
    inputs = {
        "y_hat": normal(rng, images, 4 * _ANCHORS, *_LEVEL),
        "y": normal(rng, rows, 4),
        "locations": locations,
        "fg_num": np.array([rows], dtype=np.float32),
    }
    balanced, smooth = (
        partial(eager.select_loss, partial(penalty, beta=beta))
        for penalty in (eager.balanced_l1_penalty, eager.smooth_l1_penalty)
    )
    size = f"{rows} boxes of {images}x{4 * _ANCHORS}x{_LEVEL[0]}x{_LEVEL[1]}"
    select_balanced = partial(ops.select_balanced_l1_loss, beta=beta)
    select_smooth = partial(ops.select_smooth_l1_loss, beta=beta)
    return [
        _loss_case("SelectBalancedL1Loss", size, inputs, select_balanced, balanced),
        _loss_case("SelectSmoothL1Loss", size, inputs, select_smooth, smooth),
    ]


def _focal_cases(rng: np.random.Generator) -> list[OperatorCase]:
    sigmoid = _focal_inputs(rng, 80)
    weighted = {**sigmoid, "weights": rng.random(sigmoid["labels"].shape, dtype=np.float32)}
    return [
        _focal_case("SigmoidFocalLoss", sigmoid, 80, ops.sigmoid_focal_loss),
        _focal_case("WeightedSigmoidFocalLoss", weighted, 80, ops.weighted_sigmoid_focal_loss),
        _focal_case("SoftmaxFocalLoss", _focal_inputs(rng, 81), 81, _add_softmax_focal_loss),
    ]


def _focal_inputs(rng: np.random.Generator, classes: int) -> dict[str, np.ndarray]:
    return {
        "logits": normal(rng, 1, _ANCHORS * classes, *_LEVEL),
        "labels": _sparse_labels(rng),
        "fg_num": np.array([100], dtype=np.float32),
    }


def _focal_case(name: str, inputs: Inputs, classes: int, add: Callable[..., Any]) -> OperatorCase:
    size = f"1x{_ANCHORS * classes}x{_LEVEL[0]}x{_LEVEL[1]}, {classes} classes"
    formula: Any = eager.softmax_focal_loss if "Softmax" in name else eager.sigmoid_focal_loss
    count = {"num_classes": classes}
    return _loss_case(name, size, inputs, partial(add, **count), partial(formula, **count))


def _loss_case(
    name: str,
    size: str,
    inputs: Inputs,
    add: Callable[..., Any],
    formula: Callable[..., Any],
) -> OperatorCase:
    """Return a case with one output, the loss. Only the first input receives a gradient.

    Args:
        name: the operator's name.
        size: the size of the inputs, as the table shows it.
        inputs: arrays by blob name, in the operator's order.
        add: adds the operator: takes the net, the input blobs and the output blob.
        formula: the same in PyTorch: takes the input tensors.
    """
    names = tuple(inputs)
    return OperatorCase(
        name,
        size,
        inputs,
        lambda net: [add(net, *names, "loss")],
        lambda tensors: [formula(*(tensors[n] for n in names))],
        names[:1],
    )


def _add_softmax_focal_loss(net, *blobs, num_classes):
    return ops.softmax_focal_loss(net, *blobs, num_classes=num_classes)[0]


def _sparse_labels(rng: np.random.Generator) -> np.ndarray:
    """Return typical labels of anchors: 2 % ignored, 1 % of some class, the rest background."""
    shape = (1, _ANCHORS, *_LEVEL)
    draw = rng.random(shape)
    labels = np.where(draw < 0.01, rng.integers(1, 81, shape), 0)
    return np.where(draw > 0.98, -1, labels).astype(np.int32)


def _entropy_cases(rng: np.random.Generator) -> list[OperatorCase]:
    shape = (2, 3, 200, 336)
    inputs = {
        "logits": normal(rng, *shape),
        "labels": rng.integers(-1, 2, shape).astype(np.int32),
    }
    return [
        _loss_case(
            "SigmoidCrossEntropyLoss",
            "x".join(map(str, shape)),
            inputs,
            lambda net, *blobs: net.SigmoidCrossEntropyLoss(blobs[:-1], blobs[-1]),
            eager.sigmoid_cross_entropy_loss,
        )
    ]
