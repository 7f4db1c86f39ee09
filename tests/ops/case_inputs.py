"""The cases of all operators: inputs and arguments, the empty and the odd ones among them."""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np
from native_runner import normal


class Case(NamedTuple):
    """An operator with inputs and arguments."""

    label: str
    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]


def make_cases(seed: int) -> list[Case]:
    """Return cases of every operator: all arguments, odd sizes, and the empty and 1x1 ones.

    Differences stay clear of the kinks of their losses, and maxima of one another, so that float32
    and float64, or a step of 1e-5, find the same side of them; `make_kink_cases` is for the rest.
    """
    random = np.random.RandomState(seed)
    cases = [
        *_dense_box_cases(random),
        *_select_box_cases(random),
        *_focal_cases(random),
        *_pyramid_cases(random),
        *_region_cases(random),
        *_other_cases(random),
    ]
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def _distinct(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Return numbers in [-2, 2), evenly spaced and shuffled."""
    size = int(np.prod(shape))
    return np.float32(4 * random.permutation(size).reshape(shape) / max(size, 1) - 2)


BALANCED = [
    {},
    {"beta": 0.11, "scale": 0.5},
    {"beta": 0.11, "formula": "mmdet"},
    {"alpha": 0.3, "gamma": 0.9, "beta": 2.5, "formula": "continuous"},
    {"alpha": 0.75, "gamma": 2.0, "beta": 3.0, "formula": "mmdet"},
]
SMOOTH = [{}, {"beta": 0.11, "scale": 2.0}]


def _off_kinks(inside: np.ndarray, difference: np.ndarray, beta: float = 1.0, **_) -> np.ndarray:
    """Return which products of two factors are clear of 0 and of beta, where slopes jump."""
    x = np.abs(np.float64(inside) * difference)
    return (x > 1e-4) & (np.abs(x - beta) > 1e-4)


def _box_losses(dense: bool) -> list[tuple[str, dict[str, Any]]]:
    prefix = "" if dense else "Select"
    return [
        *((f"{prefix}SmoothL1Loss", arguments) for arguments in SMOOTH),
        *((f"{prefix}BalancedL1Loss", arguments) for arguments in BALANCED),
    ]


def _dense_box_cases(random: np.random.RandomState) -> Iterator[tuple]:
    # A single number's gradient would now and then be all rounding: formula mmdet crosses zero.
    for shape in [(37, 4), (3, 8, 2, 5), (1, 4), (5,), (0, 4), (3, 0)]:
        y_hat, y = normal(random, *shape), normal(random, *shape)
        inside, outside = random.uniform(0, 2, (2, *shape)).astype(np.float32)
        for name, arguments in _box_losses(dense=True):
            clear = _off_kinks(inside, y_hat - y, **arguments)
            yield name, [y_hat, y, inside, outside * clear], arguments


def select_inputs(
    random: np.random.RandomState, rows: int, shape: Sequence[int], fg_num: float
) -> list[np.ndarray]:
    """Return y_hat, y, locations and fg_num with `rows` distinct locations in a map of `shape`."""
    n, channels, height, width = shape
    anchors = channels // 4
    places = random.choice(n * anchors * height * width, rows, replace=False)
    locations = np.stack(np.unravel_index(places, (n, anchors, height, width)), axis=1)
    locations[:, 1] *= 4
    return [
        normal(random, *shape),
        normal(random, rows, 4),
        locations.astype(np.float32),
        np.array([fg_num], np.float32),
    ]


def _select_box_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for rows, shape, fg_num in [
        (20, (2, 12, 7, 5), 31.0),
        (3, (1, 36, 1, 1), 0.0),
        (0, (2, 8, 3, 4), 5.0),
        (0, (1, 4, 1, 1), 0.0),
    ]:
        y_hat, y, locations, count = select_inputs(random, rows, shape, fg_num)
        n, c, height, width = locations.astype(np.int64).T[:, :, np.newaxis]
        for name, arguments in _box_losses(dense=False):
            difference = y_hat[n, c + np.arange(4), height, width] - y
            clear = _off_kinks(np.ones_like(y), difference, **arguments)
            yield name, [y_hat, np.where(clear, y, y + 0.01), locations, count], arguments


def make_kink_cases() -> list[Case]:
    """Return cases of the box losses at differences of 0 and beta, and the floats beside beta."""
    cases = []
    for beta in (1.0, float(np.float32(0.11)), 2.5):
        b = np.float32(beta)
        beside = [np.nextafter(b, np.float32(0)), np.nextafter(b, np.float32(np.inf))]
        x = np.array([0.0, -0.0, b, -b, *beside], np.float32)
        zeros, ones = np.zeros((6, 4), np.float32), np.ones((6, 4), np.float32)
        rows = np.array([[0, 0, 0, i] for i in range(6)], np.float32)
        y_map = np.broadcast_to(x, (1, 4, 1, 6)).copy()
        dense = [np.repeat(x[:, np.newaxis], 4, axis=1), zeros, ones, ones]
        for select, inputs in (("", dense), ("Select", [y_map, zeros, rows, ones[0, :1]])):
            cases.append((f"{select}SmoothL1Loss", inputs, {"beta": beta}))
            for formula in ("continuous", "mmdet"):
                arguments = {"beta": beta, "formula": formula}
                cases.append((f"{select}BalancedL1Loss", inputs, arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


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
        softmax_labels = np.minimum(labels, classes - 1)
        yield "SoftmaxFocalLoss", [logits, softmax_labels, count], arguments


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
    """Yield log losses, narrowed maps and pooled regions."""
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
    for wide, narrow in [((2, 3, 6, 7), (2, 3, 4, 5)), ((1, 2, 3, 3), (1, 3, 3))]:
        yield "SpatialNarrowAs", [normal(random, *wide), normal(random, *narrow)], {}
    x = _distinct(random, 2, 3, 10, 14)
    for rois, bins in [(ROIS, (2, 3)), (ROIS, (7, 7)), (ROIS[:0], (1, 1))]:
        arguments = {"pooled_h": bins[0], "pooled_w": bins[1], "spatial_scale": 0.5}
        yield "RoIPoolF", [x, rois], arguments


def non_local_inputs(random, shape, embedded) -> list[np.ndarray]:
    """X and the weights of a non-local block: theta, phi, g and out, each filters and biases."""
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
        for spread in (2, 8):  # probabilities apart, and nearly all in one class
            logits = spread * normal(random, *shape)
            yield "GroupSpatialSoftmax", [logits], {"num_classes": classes}
