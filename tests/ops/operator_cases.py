"""One table of operators, inputs and arguments for all tests of operators, and how to run them."""

from __future__ import annotations

from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np
from caffe2.python import core, workspace

from detectron_ext import ops
from detectron_ext.ops import reference

Arrays = Sequence[np.ndarray]


class Definition(NamedTuple):
    """An operator's float64 definition in one calling convention.

    gradient(inputs, d_outputs, **arguments) returns the gradients of `differentiable` inputs, given
    those of the outputs that have one.
    """

    forward: Callable[..., list[np.ndarray]]
    gradient: Callable[..., list[np.ndarray]]
    front_end: Callable[..., Any]
    differentiable: Callable[[int], range] = lambda count: range(1)


class Case(NamedTuple):
    """An operator with inputs and arguments."""

    label: str
    operator: str
    inputs: list[np.ndarray]
    arguments: dict[str, Any]


def _scalar_loss(name: str) -> Definition:
    loss, gradient = getattr(reference, name), getattr(reference, name + "_gradient")
    front_end = getattr(ops, name)

    def add(net, inputs, **arguments):
        return [front_end(net, *inputs, "output", **arguments)]

    return Definition(
        lambda inputs, **arguments: [loss(*inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: [gradient(*inputs, d_outputs[0], **arguments)],
        add,
    )


def _every(count: int) -> range:
    return range(count)


def _softmax_gradient(inputs, d_outputs, **arguments):
    y = reference.group_spatial_softmax(*inputs, **arguments)
    return [reference.group_spatial_softmax_gradient(y, d_outputs[0], **arguments)]


DEFINITIONS = {
    "SmoothL1Loss": _scalar_loss("smooth_l1_loss"),
    "SelectSmoothL1Loss": _scalar_loss("select_smooth_l1_loss"),
    "BalancedL1Loss": _scalar_loss("balanced_l1_loss"),
    "SelectBalancedL1Loss": _scalar_loss("select_balanced_l1_loss"),
    "SigmoidFocalLoss": _scalar_loss("sigmoid_focal_loss"),
    "WeightedSigmoidFocalLoss": _scalar_loss("weighted_sigmoid_focal_loss"),
    "SoftmaxFocalLoss": Definition(
        lambda inputs, **arguments: list(reference.softmax_focal_loss(*inputs, **arguments)),
        lambda inputs, d_outputs, **arguments: [
            reference.softmax_focal_loss_gradient(*inputs, d_outputs[0], **arguments)
        ],
        lambda net, inputs, **arguments: list(
            ops.softmax_focal_loss(net, *inputs, "output", "prob", **arguments)
        ),
    ),
    "BalancedPyramidGather": Definition(
        lambda inputs, **arguments: [reference.balanced_pyramid_gather(inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: reference.balanced_pyramid_gather_gradient(
            inputs, d_outputs[0], **arguments
        ),
        lambda net, inputs, **arguments: [
            ops.balanced_pyramid_gather(net, inputs, "output", **arguments)
        ],
        _every,
    ),
    "BalancedPyramidScatter": Definition(
        lambda inputs, **arguments: reference.balanced_pyramid_scatter(
            inputs[0], inputs[1:], **arguments
        ),
        lambda inputs, d_outputs, **arguments: reference.balanced_pyramid_scatter_gradient(
            inputs[0], d_outputs, **arguments
        ),
        lambda net, inputs, **arguments: list(
            ops.balanced_pyramid_scatter(
                net,
                inputs[0],
                inputs[1:],
                [f"output{i}" for i in range(len(inputs) - 1)],
                **arguments,
            )
        ),
        _every,
    ),
    "EmbeddedGaussianAttention": Definition(
        lambda inputs, **arguments: [reference.embedded_gaussian_attention(*inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: list(
            reference.embedded_gaussian_attention_gradient(*inputs, d_outputs[0], **arguments)
        ),
        lambda net, inputs, **arguments: [
            ops.embedded_gaussian_attention(net, *inputs, "output", **arguments)
        ],
        _every,
    ),
    "UpsampleNearest": Definition(
        lambda inputs, **arguments: [reference.upsample_nearest(*inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: [
            reference.upsample_nearest_gradient(d_outputs[0], **arguments)
        ],
        lambda net, inputs, **arguments: [
            ops.upsample_nearest(net, *inputs, "output", **arguments)
        ],
    ),
    "GroupSpatialSoftmax": Definition(
        lambda inputs, **arguments: [reference.group_spatial_softmax(*inputs, **arguments)],
        _softmax_gradient,
        lambda net, inputs, **arguments: [
            ops.group_spatial_softmax(net, *inputs, "output", **arguments)
        ],
    ),
}

# Outputs that have a gradient, where not all do.
LOSS_OUTPUTS = {"SoftmaxFocalLoss": 1}


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
        *_other_cases(random),
    ]
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def _normal(random: np.random.RandomState, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


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
    for shape in [(37, 4), (3, 8, 2, 5), (1, 1), (5,), (0, 4), (3, 0)]:
        y_hat, y = _normal(random, *shape), _normal(random, *shape)
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
        _normal(random, *shape),
        _normal(random, rows, 4),
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
        logits = 3 * _normal(random, images, anchors * classes, *size)
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


def _other_cases(random: np.random.RandomState) -> Iterator[tuple]:
    for shape, use_scale in [
        ((2, 8, 5, 7), False), ((1, 3, 6, 4), True), ((2, 4, 1, 1), False), ((0, 4, 3, 2), True)
    ]:  # fmt: skip
        inputs = [_normal(random, *shape) for _ in range(3)]
        yield "EmbeddedGaussianAttention", inputs, {"use_scale": use_scale}
    for shape, scale in [((2, 3, 4, 5), 2), ((1, 2, 1, 1), 3), ((2, 3, 4), 1), ((0, 2, 3, 3), 2)]:
        yield "UpsampleNearest", [_normal(random, *shape)], {"scale": scale}
    for shape, classes in [
        ((2, 12, 3, 5), 4), ((1, 81, 1, 1), 81), ((2, 3, 2, 2), 1), ((0, 6, 2, 3), 3)
    ]:  # fmt: skip
        for spread in (2, 8):  # probabilities apart, and nearly all in one class
            logits = spread * _normal(random, *shape)
            yield "GroupSpatialSoftmax", [logits], {"num_classes": classes}


def output_gradients(case: Case, seed: int) -> list[np.ndarray]:
    """Return random gradients of the case's outputs, as float32."""
    random = np.random.RandomState(seed)
    outputs = DEFINITIONS[case.operator].forward(case.inputs, **case.arguments)
    outputs = outputs[: LOSS_OUTPUTS.get(case.operator)]
    return [_normal(random, *np.shape(output)) for output in outputs]


def run_case(case: Case, d_outputs: Arrays, net_type: str = "simple") -> tuple[list, list, str]:
    """Run the case's front-end and its gradient in a fresh workspace.

    Returns the outputs, the gradients of the differentiable inputs, and the operator's type.
    """
    definition = DEFINITIONS[case.operator]
    workspace.ResetWorkspace()
    net = core.Net("case")
    net.Proto().type = net_type
    names = [f"input{i}" for i in range(len(case.inputs))]
    for name, array in zip(names, case.inputs):
        workspace.FeedBlob(name, array)
    outputs = definition.front_end(net, names, **case.arguments)
    seeds = {}
    for i, (output, d_output) in enumerate(zip(outputs, d_outputs)):
        seeds[output] = net.AddExternalInput(f"d_output{i}")
        workspace.FeedBlob(f"d_output{i}", d_output)
    operator_type = net.Proto().op[0].type
    gradients = net.AddGradientOperators(seeds)
    workspace.RunNetOnce(net)
    inputs = [names[i] for i in definition.differentiable(len(names))]
    fetch = workspace.FetchBlob
    return (
        [fetch(str(output)) for output in outputs],
        [fetch(str(gradients[name])) for name in inputs],
        operator_type,
    )


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return |actual - expected| / |expected| in the Euclidean norm; / 1 where expected is 0."""
    actual, expected = np.float64(actual).ravel(), np.float64(expected).ravel()
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    difference = np.linalg.norm(actual - expected)
    return float(difference / (np.linalg.norm(expected) or 1.0))
