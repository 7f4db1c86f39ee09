"""Cases of the operators on maps: pyramid, attention, regions, softmax and resizing."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import numpy as np
from case_types import IMAGES, SHAPE, BigCase
from native_runner import normal


def _distinct(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return numbers in [-2, 2), evenly spaced and shuffled."""
    size = int(np.prod(shape))
    return np.float32(4 * random.permutation(size).reshape(shape) / max(size, 1) - 2)


PYRAMIDS = [
    [(16, 24), (8, 12), (4, 6), (2, 3)],
    [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)],
    [(23, 14), (17, 9), (9, 6), (5, 4), (3, 3), (2, 2), (1, 2), (1, 1)],
    [(1, 1), (1, 1)],
    [(9, 1), (5, 1), (3, 1)],
]


def _pyramid_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for sizes in PYRAMIDS:
        levels = [_distinct(random, 2, 3, *size) for size in sizes]
        for refine_level, size in enumerate(sizes):
            arguments = {"refine_level": refine_level}
            balanced = _distinct(random, 2, 3, *size)
            yield "BalancedPyramidGather", levels, arguments
            yield "BalancedPyramidScatter", [balanced, *levels], arguments
    empty = [np.zeros((0, 3, *size), np.float32) for size in PYRAMIDS[-1]]
    yield "BalancedPyramidGather", empty, {"refine_level": 1}
    yield "BalancedPyramidScatter", [empty[1], *empty], {"refine_level": 1}


# Rows (image, x1, y1, x2, y2).
ROIS = np.array(
    [
        [0, 0, 0, 27, 19],
        [1, 4.6, 7.4, 13.2, 12.9],
        [1, -30, -20, 6, 5],
        [0, 22, 3, 10, 1],  # malformed: x2 < x1
        [0, 90, 90, 95, 95],  # outside the map
    ],
    np.float32,
)


def _region_cases(random: np.random.RandomState) -> Iterator[tuple]:
    """Yield narrowed maps and pooled regions."""
    for wide, narrow in [((2, 3, 6, 7), (2, 3, 4, 5)), ((1, 2, 3, 3), (1, 3, 3))]:
        yield "SpatialNarrowAs", [normal(random, *wide), normal(random, *narrow)], {}
    x = _distinct(random, 2, 3, 10, 14)
    for rois, bins in [(ROIS, (2, 3)), (ROIS, (7, 7)), (ROIS[:0], (1, 1))]:
        arguments = {"pooled_h": bins[0], "pooled_w": bins[1], "spatial_scale": 0.5}
        yield "RoIPoolF", [x, rois], arguments


def non_local_inputs(random, shape, embedded) -> list[np.ndarray]:
    """Return X and, for theta, phi, g and out of a non-local block, filters and biases."""
    channels = shape[1]
    inputs = [normal(random, *shape)]
    for filters, depth in (*[(embedded, channels)] * 3, (channels, embedded)):
        inputs += [normal(random, filters, depth, 1, 1) / np.float32(depth**0.5)]
        inputs += [0.3 * normal(random, filters)]
    return inputs


def _other_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for shape, use_scale in [
        ((2, 8, 5, 7), False), ((1, 3, 6, 4), True), ((2, 4, 1, 1), False), ((0, 4, 3, 2), True)
    ]:  # fmt: skip
        inputs = [normal(random, *shape) for _ in range(3)]
        yield "EmbeddedGaussianAttention", inputs, {"use_scale": use_scale}
    for shape, embedded, use_scale in [
        ((2, 8, 5, 7), 8, False), ((1, 9, 6, 4), 11, True), ((2, 8, 1, 1), 9, False)
    ]:  # fmt: skip
        inputs = non_local_inputs(random, shape, embedded)
        yield "NonLocalBlock", inputs, {"use_scale": use_scale}
    for shape, scale in [((2, 3, 4, 5), 2), ((1, 2, 1, 1), 3), ((2, 3, 4), 1), ((0, 2, 3, 3), 2)]:
        yield "UpsampleNearest", [normal(random, *shape)], {"scale": scale}
    for shape, classes in [
        ((2, 12, 3, 5), 4), ((1, 81, 1, 1), 81), ((2, 3, 2, 2), 1), ((0, 6, 2, 3), 3)
    ]:  # fmt: skip
        for spread in (2, 8):  # with 8, nearly all probability is in one class
            logits = spread * normal(random, *shape)
            yield "GroupSpatialSoftmax", [logits], {"num_classes": classes}


def _affine_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for shape, limits in [
        ((2, 5, 7, 9), (0.0, 6.0)), ((3, 4, 1, 1), (-1.0, 1.5)), ((4, 3), (-0.5, 0.5)),
        ((2, 3, 4, 3, 2), (0.25, 0.25)), ((0, 3, 4, 4), (0.0, 6.0)), ((1, 2, 0, 4), (0.0, 6.0)),
    ]:  # fmt: skip
        inputs = [normal(random, *shape), 2 * normal(random, shape[1]), normal(random, shape[1])]
        yield "AffineChannelClip", inputs, {"min": limits[0], "max": limits[1]}


def small_cases(random: np.random.RandomState) -> Iterator[tuple]:
    """Yield (operator, inputs, arguments) of small cases."""
    yield from _affine_cases(random)
    yield from _pyramid_cases(random)
    yield from _region_cases(random)
    yield from _other_cases(random)


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


def _affine_clip(random) -> BigCase:
    channels = SHAPE[1]
    inputs = [normal(random, *SHAPE), normal(random, channels), normal(random, channels)]
    return BigCase("AffineChannelClip", inputs, {"min": -0.5, "max": 1.0})


def big_regions(operator: str, outputs: int = 2, **arguments: int) -> Callable[..., BigCase]:
    def build(random):
        corners = np.sort(random.uniform(0, 300, (60, 2, 2)), axis=1).reshape(60, 4)
        rois = np.hstack([random.randint(0, IMAGES, (60, 1)), corners]).astype(np.float32)
        inputs = [normal(random, *SHAPE), rois]
        return BigCase(operator, inputs, {"spatial_scale": 0.25, **arguments}, outputs)

    return build


def big_maps(operator: str, count: int = 1, **arguments: Any) -> Callable[..., BigCase]:
    return lambda random: BigCase(
        operator, [normal(random, *SHAPE) for _ in range(count)], arguments
    )


BIG_CASES: dict[str, Callable[[np.random.RandomState], BigCase]] = {
    "AffineChannelClip": _affine_clip,
    "BalancedPyramidGather": lambda random: BigCase(
        "BalancedPyramidGather", _pyramid(random), {"refine_level": 1}
    ),
    "BalancedPyramidScatter": _scatter,
    "EmbeddedGaussianAttention": _attention,
    "GroupSpatialSoftmax": big_maps("GroupSpatialSoftmax", num_classes=4),
    "NonLocalBlock": _non_local,
    "RoIPoolF": big_regions("RoIPoolF", pooled_h=3, pooled_w=4),
    "SpatialNarrowAs": lambda random: BigCase(
        "SpatialNarrowAs", [normal(random, *SHAPE), np.zeros((IMAGES, 50, 70), np.float32)], {}
    ),
    "UpsampleNearest": big_maps("UpsampleNearest", scale=2),
}
