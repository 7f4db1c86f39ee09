"""One table of the operators with front-ends for all tests of operators, and how to run them."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
from caffe2.python import core, workspace
from case_inputs import Case
from native_runner import normal

from detectron_ext import ops
from detectron_ext.ops import reference

Arrays = Sequence[np.ndarray]


class Definition(NamedTuple):
    """An operator's float64 definition in one calling convention.

    gradient(inputs, d_outputs, **arguments) returns the gradients of `differentiable` inputs, given
    those of the outputs that have one. In Python the front-end's first operator is
    `python_type`.
    """

    forward: Callable[..., list[np.ndarray]]
    gradient: Callable[..., list[np.ndarray]]
    front_end: Callable[..., Any]
    differentiable: Callable[[int], Sequence[int]] = lambda count: range(1)
    python_type: str = "Python"


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


# The gradient of phi_b is 0; tests/ops/test_non_local.py has it.
_PHI_B = 4


def _all_but_phi_b(items: Sequence[Any]) -> list:
    return [item for i, item in enumerate(items) if i != _PHI_B]


def _add_non_local_block(net, inputs, **arguments):
    x, *weights = inputs
    pairs = {
        part: weights[2 * i : 2 * i + 2] for i, part in enumerate(("theta", "phi", "g", "out"))
    }
    return [ops.non_local_block(net, x, "output", **pairs, **arguments)]


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
    "NonLocalBlock": Definition(
        lambda inputs, **arguments: [reference.non_local_block(*inputs, **arguments)],
        lambda inputs, d_outputs, **arguments: _all_but_phi_b(
            reference.non_local_block_gradient(*inputs, d_outputs[0], **arguments)
        ),
        _add_non_local_block,
        lambda count: _all_but_phi_b(range(count)),
        python_type="Conv",
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


def output_gradients(case: Case, seed: int) -> list[np.ndarray]:
    """Return random gradients of the case's outputs, as float32."""
    random = np.random.RandomState(seed)
    outputs = DEFINITIONS[case.operator].forward(case.inputs, **case.arguments)
    outputs = outputs[: LOSS_OUTPUTS.get(case.operator)]
    return [normal(random, *np.shape(output)) for output in outputs]


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
