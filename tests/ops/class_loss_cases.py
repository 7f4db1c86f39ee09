"""Cases of the focal losses and of the cross-entropy."""

from __future__ import annotations

from typing import Callable, Iterator

import numpy as np
from case_types import HEIGHT, IMAGES, SHAPE, WIDTH, BigCase
from native_runner import normal


def _focal_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for images, classes, anchors, size, fg_num, gamma in [
        (2, 5, 3, (7, 6), 11.0, 2.0),
        (2, 3, 1, (23, 25), 40.0, 2.0),
        (2, 3, 2, (4, 5), 6.0, 0.0),
        (2, 4, 1, (1, 1), 0.0, 1.5),
        (2, 80, 1, (3, 2), 2.0, 2.0),
        (2, 2, 2, (5, 3), 1.0, 0.5),
        (0, 3, 2, (4, 5), 0.0, 2.0),
    ]:
        logits = 3 * normal(random, images, anchors * classes, *size)
        labels = random.randint(-1, classes + 1, (images, anchors, *size)).astype(np.int32)
        weights = random.uniform(0, 3, labels.shape).astype(np.float32)
        count = np.array([fg_num], np.float32)
        arguments = {"gamma": gamma, "alpha": 0.3, "scale": 0.5, "num_classes": classes}
        inputs = [logits, labels, count]
        yield "SigmoidFocalLoss", inputs, arguments
        yield "WeightedSigmoidFocalLoss", [*inputs, weights], arguments
        named = {"beta": gamma, "positive_weight": 0.7, "negative_weight": 1.5}
        quality = random.uniform(0, 1, labels.shape).astype(np.float32)
        quality.flat[::5], quality.flat[1::5] = 0, 1
        more = {**named, "scale": 0.5, "num_classes": classes}
        yield "QualityFocalLoss", [*inputs, quality], more
        for bins in (1, 3, 17):
            numbers = random.randint(0, bins + 1, labels.shape).astype(np.int32)
            fixed = {"gamma": gamma, "alpha": 0.3, "num_classes": classes, "num_bins": bins}
            yield "NegativeGradientMass", [logits, numbers], fixed
        softmax_labels = np.minimum(labels, classes - 1)
        yield "SoftmaxFocalLoss", [logits, softmax_labels, count], arguments


def _cross_entropy_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for shape, arguments in [
        ((2, 3, 5, 7), {}),
        ((30,), {"scale": 0.25, "normalize": False}),
        ((1, 3, 1, 1), {"normalize": True}),
        ((0, 3, 4, 4), {}),
    ]:
        targets = random.randint(-1, 2, shape).astype(np.int32)
        yield "SigmoidCrossEntropyLoss", [3 * normal(random, *shape), targets], arguments
    ignored = np.full((2, 3, 2, 2), -1, np.int32)
    yield "SigmoidCrossEntropyLoss", [normal(random, 2, 3, 2, 2), ignored], {}


def small_cases(random: np.random.RandomState) -> Iterator[tuple]:
    """Yield (operator, inputs, arguments) of small cases."""
    yield from _focal_cases(random)
    yield from _cross_entropy_cases(random)


def _focal(operator: str, outputs: int = 1, weighted: bool = False) -> Callable[..., BigCase]:
    def build(random):
        labels = random.randint(-1, 4, (IMAGES, 3, HEIGHT, WIDTH)).astype(np.int32)
        weights = [np.abs(normal(random, *labels.shape))] if weighted else []
        inputs = [3 * normal(random, *SHAPE), labels, np.float32([9]), *weights]
        return BigCase(operator, inputs, {"num_classes": 4, "gamma": 1.7}, outputs)

    return build


def _quality(random) -> BigCase:
    case = _focal("QualityFocalLoss")(random)
    quality = random.uniform(0, 1, case.inputs[1].shape).astype(np.float32)
    arguments = {"num_classes": 4, "beta": 1.7}
    return BigCase("QualityFocalLoss", [*case.inputs, quality], arguments)


def _gradient_mass(random) -> BigCase:
    bins = random.randint(0, 6, (IMAGES, 3, HEIGHT, WIDTH)).astype(np.int32)
    arguments = {"num_classes": 4, "gamma": 1.7, "num_bins": 5}
    inputs = [3 * normal(random, *SHAPE), bins]
    return BigCase("NegativeGradientMass", inputs, arguments, differentiable=0)


def _cross_entropy(random) -> BigCase:
    targets = random.randint(-1, 2, SHAPE).astype(np.int32)
    return BigCase("SigmoidCrossEntropyLoss", [3 * normal(random, *SHAPE), targets], {})


BIG_CASES: dict[str, Callable[[np.random.RandomState], BigCase]] = {
    "NegativeGradientMass": _gradient_mass,
    "QualityFocalLoss": _quality,
    "SigmoidCrossEntropyLoss": _cross_entropy,
    "SigmoidFocalLoss": _focal("SigmoidFocalLoss"),
    "SoftmaxFocalLoss": _focal("SoftmaxFocalLoss", outputs=2),
    "WeightedSigmoidFocalLoss": _focal("WeightedSigmoidFocalLoss", weighted=True),
}
