"""Cases of the operators that read or write selected anchors."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import numpy as np
from case_types import HEIGHT, IMAGES, SHAPE, WIDTH, BigCase
from native_runner import normal


def anchor_places(
    random: np.random.RandomState, rows: int, shape: Sequence[int], channels: int = 4
) -> np.ndarray:
    """Return `rows` places of distinct anchors in a map of anchors (N, A, H, W)."""
    chosen = random.choice(int(np.prod(shape)), rows, replace=False)
    places = np.stack(np.unravel_index(chosen, shape), axis=1)
    places[:, 1] = channels * places[:, 1] + 4 * random.randint(0, channels // 4, rows)
    return places.astype(np.float32)


def iou_inputs(random: np.random.RandomState, rows: int, shape: Sequence[int]) -> list[np.ndarray]:
    """Return y_hat, y and locations; the boxes of many rows overlap."""
    n, channels, height, width = shape
    places = anchor_places(random, rows, (n, channels // 4, height, width))
    return [0.3 * normal(random, *shape), 0.3 * normal(random, rows, 4), places]


def focal_inputs(
    random: np.random.RandomState, rows: int, classes: int, shape: Sequence[int], channels: int
) -> list[np.ndarray]:
    """Return logits, labels and locations; `shape` is that of the labels."""
    n, anchors, height, width = shape
    logits = 3 * normal(random, n, anchors * classes, height, width)
    labels = random.randint(-1, classes + 1, shape).astype(np.int32)
    return [logits, labels, anchor_places(random, rows, shape, channels)]


def small_cases(random: np.random.RandomState) -> Iterator[tuple]:
    """Yield (operator, inputs, arguments) of small cases."""
    for rows, shape in [(20, (2, 12, 7, 5)), (3, (1, 36, 1, 1)), (0, (2, 8, 3, 4))]:
        yield "SelectBoxIou", iou_inputs(random, rows, shape), {}
        y_hat, y, places = iou_inputs(random, rows, shape)
        yield "SelectBoxIou", [8 * y_hat, y, places], {"max_log_scale": 0.25}
    for rows, classes, shape, channels, gamma in [
        (20, 5, (2, 3, 7, 6), 4, 2.0),
        (9, 3, (2, 2, 4, 5), 12, 0.0),
        (4, 80, (1, 1, 2, 3), 4, 1.5),
        (0, 3, (2, 2, 4, 5), 4, 2.0),
    ]:
        inputs = focal_inputs(random, rows, classes, shape, channels)
        named: dict[str, Any] = {"gamma": gamma, "alpha": 0.3, "num_classes": classes}
        yield "SelectSigmoidFocalLoss", inputs, {**named, "channels": channels}
        weights, factors = random.uniform(0, 2, shape), random.uniform(0, 2, rows)
        inputs = [weights.astype(np.float32), factors.astype(np.float32), inputs[2]]
        yield "ScaleAnchors", inputs, {"channels": channels}


def _big_iou(random: np.random.RandomState) -> BigCase:
    return BigCase("SelectBoxIou", iou_inputs(random, 900, SHAPE), {}, differentiable=0)


def _big_focal(random: np.random.RandomState) -> BigCase:
    inputs = focal_inputs(random, 900, 4, (IMAGES, 3, HEIGHT, WIDTH), 4)
    return BigCase("SelectSigmoidFocalLoss", inputs, {"num_classes": 4}, 2, differentiable=0)


def _big_scale(random: np.random.RandomState) -> BigCase:
    weights = np.abs(normal(random, IMAGES, 9, HEIGHT, 2 * WIDTH))
    inputs = [weights, normal(random, 900), anchor_places(random, 900, weights.shape)]
    return BigCase("ScaleAnchors", inputs, {}, differentiable=0)


BIG_CASES = {
    "ScaleAnchors": _big_scale,
    "SelectBoxIou": _big_iou,
    "SelectSigmoidFocalLoss": _big_focal,
}
