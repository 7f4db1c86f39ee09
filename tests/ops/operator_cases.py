"""One table of operators, inputs and arguments for all tests of operators, and how to run them."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

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


def _roi_max_pool_gradient(inputs, d_outputs, **arguments):
    _, argmax = reference.roi_max_pool(*inputs, **arguments)
    return [reference.roi_max_pool_gradient(*inputs, argmax, d_outputs[0])]


DEFINITIONS = {
    "SmoothL1Loss": _scalar_loss("smooth_l1_loss"),
    "SelectSmoothL1Loss": _scalar_loss("select_smooth_l1_loss"),
    "BalancedL1Loss": _scalar_loss("balanced_l1_loss"),
    "SelectBalancedL1Loss": _scalar_loss("select_balanced_l1_loss"),
    "SigmoidFocalLoss": _scalar_loss("sigmoid_focal_loss"),
    "WeightedSigmoidFocalLoss": _scalar_loss("weighted_sigmoid_focal_loss"),
    "SigmoidCrossEntropyLoss": _scalar_loss("sigmoid_cross_entropy_loss"),
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
    "SpatialNarrowAs": Definition(
        lambda inputs: [reference.spatial_narrow_as(*inputs)],
        lambda inputs, d_outputs: [reference.spatial_narrow_as_gradient(*inputs, d_outputs[0])],
        lambda net, inputs: [ops.spatial_narrow_as(net, *inputs, "output")],
    ),
    "RoIPoolF": Definition(
        lambda inputs, **arguments: list(reference.roi_max_pool(*inputs, **arguments)),
        _roi_max_pool_gradient,
        lambda net, inputs, **arguments: list(
            ops.roi_max_pool(net, *inputs, "output", "argmax", **arguments)
        ),
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
LOSS_OUTPUTS = {"RoIPoolF": 1, "SoftmaxFocalLoss": 1}


def make_cases(seed: int = 0) -> list[Case]:
    """Return cases of every operator: all arguments, odd sizes, and the empty and 1x1 ones."""
    random = np.random.RandomState(seed)
    return [
        *_dense_box_cases(random),
        *_select_box_cases(random),
        *_focal_cases(random),
        *_pyramid_cases(random),
        *_region_cases(random),
        *_other_cases(random),
    ]


def _normal(random: np.random.RandomState, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


BALANCED = [
    {},
    {"beta": 0.11, "scale": 0.5},
    {"beta": 0.11, "formula": "mmdet"},
    {"alpha": 0.3, "gamma": 0.9, "beta": 2.5, "formula": "continuous"},
]


def _dense_box_cases(random: np.random.RandomState) -> list[Case]:
    cases = []
    for shape in [(37, 4), (3, 8, 2, 5), (1, 1), (0, 4)]:
        inputs = [_normal(random, *shape) for _ in range(2)]
        weights = [random.uniform(0, 2, shape).astype(np.float32) for _ in range(2)]
        for arguments in ({}, {"beta": 0.11, "scale": 2.0}):
            cases.append(("SmoothL1Loss", inputs + weights, arguments))
        for arguments in BALANCED:
            cases.append(("BalancedL1Loss", inputs + weights, arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


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


def _select_box_cases(random: np.random.RandomState) -> list[Case]:
    cases = []
    for rows, shape, fg_num in [
        (20, (2, 12, 7, 5), 31.0),
        (3, (1, 36, 1, 1), 0.0),
        (0, (2, 8, 3, 4), 5.0),
        (0, (1, 4, 1, 1), 0.0),
    ]:
        inputs = select_inputs(random, rows, shape, fg_num)
        for arguments in ({}, {"beta": 0.11, "scale": 2.0}):
            cases.append(("SelectSmoothL1Loss", inputs, arguments))
        for arguments in BALANCED:
            cases.append(("SelectBalancedL1Loss", inputs, arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def _focal_cases(random: np.random.RandomState) -> list[Case]:
    cases = []
    for classes, anchors, size, fg_num, gamma in [
        (5, 3, (7, 6), 11.0, 2.0),
        (3, 2, (4, 5), 6.0, 0.0),
        (4, 1, (1, 1), 0.0, 1.5),
        (80, 1, (3, 2), 2.0, 2.0),
        (2, 2, (5, 3), 1.0, 0.5),
    ]:
        logits = 3 * _normal(random, 2, anchors * classes, *size)
        labels = random.randint(-1, classes + 1, (2, anchors, *size)).astype(np.int32)
        weights = random.uniform(0, 3, labels.shape).astype(np.float32)
        count = np.array([fg_num], np.float32)
        arguments = {"gamma": gamma, "alpha": 0.3, "scale": 0.5, "num_classes": classes}
        inputs = [logits, labels, count]
        cases.append(("SigmoidFocalLoss", inputs, arguments))
        cases.append(("WeightedSigmoidFocalLoss", [*inputs, weights], arguments))
        softmax_labels = np.minimum(labels, classes - 1)
        cases.append(("SoftmaxFocalLoss", [logits, softmax_labels, count], arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def _pyramid_cases(random: np.random.RandomState) -> list[Case]:
    cases = []
    for sizes in [
        [(16, 24), (8, 12), (4, 6), (2, 3)],
        [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)],
        [(1, 1), (1, 1)],
        [(9, 1), (5, 1), (3, 1)],
    ]:
        levels = [_normal(random, 2, 3, *size) for size in sizes]
        for refine_level in {0, len(sizes) // 2, len(sizes) - 1}:
            arguments = {"refine_level": refine_level}
            balanced = _normal(random, 2, 3, *sizes[refine_level])
            cases.append(("BalancedPyramidGather", levels, arguments))
            cases.append(("BalancedPyramidScatter", [balanced, *levels], arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


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


def _region_cases(random: np.random.RandomState) -> list[Case]:
    """Log losses, narrowed maps and pooled regions."""
    cases = []
    for shape, arguments in [
        ((2, 3, 5, 7), {}),
        ((30,), {"scale": 0.25, "normalize": False}),
        ((1, 3, 1, 1), {"normalize": True}),
        ((0, 3, 4, 4), {}),
    ]:
        targets = random.randint(-1, 2, shape).astype(np.int32)
        cases.append(("SigmoidCrossEntropyLoss", [3 * _normal(random, *shape), targets], arguments))
    ignored = np.full((2, 3, 2, 2), -1, np.int32)
    cases.append(("SigmoidCrossEntropyLoss", [_normal(random, 2, 3, 2, 2), ignored], {}))
    for wide, narrow in [((2, 3, 6, 7), (2, 3, 4, 5)), ((1, 2, 3, 3), (1, 3, 3))]:
        pair = [_normal(random, *wide), _normal(random, *narrow)]
        cases.append(("SpatialNarrowAs", pair, {}))
    x = _normal(random, 2, 3, 10, 14)
    for rois, bins in [(ROIS, (2, 3)), (ROIS, (7, 7)), (ROIS[:0], (1, 1))]:
        arguments = {"pooled_h": bins[0], "pooled_w": bins[1], "spatial_scale": 0.5}
        cases.append(("RoIPoolF", [x, rois], arguments))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def _other_cases(random: np.random.RandomState) -> list[Case]:
    cases = []
    for shape, use_scale in [((2, 8, 5, 7), False), ((1, 3, 6, 4), True), ((2, 4, 1, 1), False)]:
        inputs = [_normal(random, *shape) for _ in range(3)]
        cases.append(("EmbeddedGaussianAttention", inputs, {"use_scale": use_scale}))
    for shape, scale in [((2, 3, 4, 5), 2), ((1, 2, 1, 1), 3), ((2, 3, 4), 1)]:
        cases.append(("UpsampleNearest", [_normal(random, *shape)], {"scale": scale}))
    for shape, classes in [((2, 12, 3, 5), 4), ((1, 81, 1, 1), 81), ((2, 3, 2, 2), 1)]:
        logits = 5 * _normal(random, *shape)
        cases.append(("GroupSpatialSoftmax", [logits], {"num_classes": classes}))
    return [Case(f"{name}-{i}", name, *rest) for i, (name, *rest) in enumerate(cases)]


def output_gradients(case: Case, seed: int = 1) -> list[np.ndarray]:
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
