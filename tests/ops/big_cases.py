"""Inputs of every native operator that fill several blocks of work, so that threads share them."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
from case_inputs import non_local_inputs, select_inputs
from native_runner import normal

IMAGES, CHANNELS, HEIGHT, WIDTH = SHAPE = (2, 12, 61, 80)


class BigCase(NamedTuple):
    """An operator with inputs and arguments.

    outputs: their number, or their names where some are inputs (input0, ...) changed in place.
    differentiable: how many of the outputs, the first ones, have gradients; 0 for no gradient.
    """

    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]
    outputs: int | Sequence[str] = 1
    differentiable: int = 1


def _dense(operator: str) -> Callable[..., BigCase]:
    def build(random):
        y_hat, y, inside, outside = (normal(random, *SHAPE) for _ in range(4))
        return BigCase(operator, [3 * y_hat, y, np.abs(inside), np.abs(outside)], {"beta": 0.5})

    return build


def _select(operator: str) -> Callable[..., BigCase]:
    return lambda random: BigCase(
        operator, select_inputs(random, 900, SHAPE, 9.0), {"beta": 0.11, "scale": 2.0}
    )


def _focal(operator: str, outputs: int = 1, weighted: bool = False) -> Callable[..., BigCase]:
    def build(random):
        labels = random.randint(-1, 4, (IMAGES, 3, HEIGHT, WIDTH)).astype(np.int32)
        weights = [np.abs(normal(random, *labels.shape))] if weighted else []
        inputs = [3 * normal(random, *SHAPE), labels, np.float32([9]), *weights]
        return BigCase(operator, inputs, {"num_classes": 4, "gamma": 1.7}, outputs)

    return build


def _cross_entropy(random) -> BigCase:
    targets = random.randint(-1, 2, SHAPE).astype(np.int32)
    return BigCase("SigmoidCrossEntropyLoss", [3 * normal(random, *SHAPE), targets], {})


def _regions(operator: str, outputs: int = 2, **arguments: int) -> Callable[..., BigCase]:
    def build(random):
        corners = np.sort(random.uniform(0, 300, (60, 2, 2)), axis=1).reshape(60, 4)
        rois = np.hstack([random.randint(0, IMAGES, (60, 1)), corners]).astype(np.float32)
        inputs = [normal(random, *SHAPE), rois]
        return BigCase(operator, inputs, {"spatial_scale": 0.25, **arguments}, outputs)

    return build


def _pyramid(random) -> list[np.ndarray]:
    return [normal(random, 2, 24, size, size + 3) for size in (40, 20, 9)]


def _scatter(random) -> BigCase:
    inputs = [normal(random, 2, 24, 20, 23), *_pyramid(random)]
    return BigCase("BalancedPyramidScatter", inputs, {"refine_level": 1}, 3, 3)


def _attention(random) -> BigCase:
    inputs = [0.1 * normal(random, 2, 40, 25, 26) for _ in range(3)]
    return BigCase("EmbeddedGaussianAttention", inputs, {"use_scale": 1})


def _non_local(random) -> BigCase:
    inputs = non_local_inputs(random, (2, 40, 25, 26), 24)
    return BigCase("NonLocalBlock", inputs, {"use_scale": 1}, outputs=3)


def _sample_as(random) -> BigCase:
    labels = random.randint(-1, 3, 900).astype(np.int32)
    return BigCase("SampleAs", [normal(random, 900, 40), labels], {})


def _of_maps(operator: str, count: int = 1, **arguments: Any) -> Callable[..., BigCase]:
    return lambda random: BigCase(
        operator, [normal(random, *SHAPE) for _ in range(count)], arguments
    )


def _with_vectors(operator: str, outputs: int = 1, **arguments: Any) -> Callable[..., BigCase]:
    def build(random):
        vectors = [normal(random, CHANNELS) for _ in range(2)]
        return BigCase(operator, [normal(random, *SHAPE), *vectors], arguments, outputs)

    return build


def _conv(random) -> BigCase:
    inputs = [normal(random, *SHAPE), normal(random, 20, CHANNELS, 3, 3), normal(random, 20)]
    return BigCase("Conv", inputs, {"kernel": 3, "pad": 1})


def _fully_connected(random) -> BigCase:
    inputs = [normal(random, *shape) for shape in ((90, 1100), (130, 1100), (130,))]
    return BigCase("FC", inputs, {})


def _proposals(random) -> BigCase:
    anchors = np.float32([[-8, -8, 23, 23], [-24, -8, 39, 23], [-8, -24, 23, 39]])
    sizes = np.float32([[HEIGHT * 16, WIDTH * 16, 1]] * IMAGES)
    scores, deltas = normal(random, IMAGES, 3, HEIGHT, WIDTH), 0.3 * normal(random, *SHAPE)
    arguments = {"spatial_scale": 1 / 16, "pre_nms_topN": 900, "post_nms_topN": 300}
    inputs = [scores, deltas, sizes, anchors]
    return BigCase("GenerateProposals", inputs, arguments, outputs=2, differentiable=0)


def _weighted_sum(random) -> BigCase:
    inputs = [normal(random, 40000), np.float32([0.5]), normal(random, 40000), np.float32([-2])]
    return BigCase("WeightedSum", inputs, {}, differentiable=0)


def _momentum(random) -> BigCase:
    gradient, velocity, parameter = (normal(random, 40000) for _ in range(3))
    inputs = [gradient, velocity, np.float32([0.1]), parameter]
    outputs = ["output0", "output1", "input3"]
    return BigCase("MomentumSGDUpdate", inputs, {"momentum": 0.9, "nesterov": 1}, outputs, 0)


_BUILDERS: dict[str, Callable[[np.random.RandomState], BigCase]] = {
    "AffineChannel": _with_vectors("AffineChannel"),
    "AffineChannel, learnt": _with_vectors("AffineChannel", is_learnable=1),
    "BalancedL1Loss": _dense("BalancedL1Loss"),
    "BalancedPyramidGather": lambda random: BigCase(
        "BalancedPyramidGather", _pyramid(random), {"refine_level": 1}
    ),
    "BalancedPyramidScatter": _scatter,
    "Conv": _conv,
    "EmbeddedGaussianAttention": _attention,
    "FC": _fully_connected,
    "GenerateProposals": _proposals,
    "GroupNorm": _with_vectors("GroupNorm", outputs=3, group=4),
    "GroupSpatialSoftmax": _of_maps("GroupSpatialSoftmax", num_classes=4),
    "MaxPool": _of_maps("MaxPool", kernel=3, stride=2, pad=1),
    "MomentumSGDUpdate": _momentum,
    "NonLocalBlock": _non_local,
    "PSRoIPool": _regions("PSRoIPool", group_size=2, output_dim=3),
    "Relu": _of_maps("Relu"),
    "RoIAlign": _regions("RoIAlign", outputs=1, pooled_h=7, pooled_w=7, sampling_ratio=2),
    "RoIPoolF": _regions("RoIPoolF", pooled_h=3, pooled_w=4),
    "SampleAs": _sample_as,
    "SelectBalancedL1Loss": _select("SelectBalancedL1Loss"),
    "SelectSmoothL1Loss": _select("SelectSmoothL1Loss"),
    "SigmoidCrossEntropyLoss": _cross_entropy,
    "SigmoidFocalLoss": _focal("SigmoidFocalLoss"),
    "SmoothL1Loss": _dense("SmoothL1Loss"),
    "SoftmaxFocalLoss": _focal("SoftmaxFocalLoss", outputs=2),
    "SpatialNarrowAs": lambda random: BigCase(
        "SpatialNarrowAs", [normal(random, *SHAPE), np.zeros((IMAGES, 50, 70), np.float32)], {}
    ),
    "Sum": _of_maps("Sum", count=3),
    "UpsampleNearest": _of_maps("UpsampleNearest", scale=2),
    "WeightedSigmoidFocalLoss": _focal("WeightedSigmoidFocalLoss", weighted=True),
    "WeightedSum": _weighted_sum,
}
LABELS = sorted(_BUILDERS)


def big_case(label: str, seed: int) -> BigCase:
    """Return the case of one of LABELS."""
    return _BUILDERS[label](np.random.RandomState(seed))
