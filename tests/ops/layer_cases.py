"""Cases of the operators whose CPU implementation the native library replaces or adds."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from case_types import CHANNELS, HEIGHT, IMAGES, SHAPE, WIDTH, BigCase
from map_cases import big_maps, big_regions
from native_runner import normal


def _sample_as(random) -> BigCase:
    labels = random.randint(-1, 3, 900).astype(np.int32)
    return BigCase("SampleAs", [normal(random, 900, 40), labels], {})


def _with_vectors(operator: str, outputs: int = 1, **arguments: Any) -> Callable[..., BigCase]:
    def build(random):
        vectors = [normal(random, CHANNELS) for _ in range(2)]
        return BigCase(operator, [normal(random, *SHAPE), *vectors], arguments, outputs)

    return build


def _conv(random) -> BigCase:
    inputs = [normal(random, *SHAPE), normal(random, 20, CHANNELS, 3, 3), normal(random, 20)]
    return BigCase("Conv", inputs, {"kernel": 3, "pad": 1})


def _depthwise(kernel: int, stride: int, pads: list[int]) -> Callable[..., BigCase]:
    def build(random):
        filters = normal(random, CHANNELS, 1, kernel, kernel)
        inputs = [normal(random, *SHAPE), filters, normal(random, CHANNELS)]
        arguments = {"kernel": kernel, "stride": stride, "pads": pads, "group": CHANNELS}
        return BigCase("Conv", inputs, arguments)

    return build


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


BIG_CASES: dict[str, Callable[[np.random.RandomState], BigCase]] = {
    "AffineChannel": _with_vectors("AffineChannel"),
    "AffineChannel, learnt": _with_vectors("AffineChannel", is_learnable=1),
    "Clip": big_maps("Clip", min=-1.0, max=1.0),
    "Conv": _conv,
    "Conv, depthwise 3x3": _depthwise(3, 1, [1, 1, 1, 1]),
    "Conv, depthwise 5x5": _depthwise(5, 2, [1, 1, 2, 2]),
    "FC": _fully_connected,
    "GenerateProposals": _proposals,
    "GroupNorm": _with_vectors("GroupNorm", outputs=3, group=4),
    "MaxPool": big_maps("MaxPool", kernel=3, stride=2, pad=1),
    "MomentumSGDUpdate": _momentum,
    "PSRoIPool": big_regions("PSRoIPool", group_size=2, output_dim=3),
    "Relu": big_maps("Relu"),
    "RoIAlign": big_regions("RoIAlign", outputs=1, pooled_h=7, pooled_w=7, sampling_ratio=2),
    "SampleAs": _sample_as,
    "Sum": big_maps("Sum", count=3),
    "WeightedSum": _weighted_sum,
}
