"""The Python operators: equal maxima, blocks, extreme numbers, and what they reject."""

from __future__ import annotations

import numpy as np
import pytest
from box_loss_cases import select_inputs
from caffe2.python import core, workspace
from case_types import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import expected_gradients, expected_outputs, relative_error

from detectron_ext.ops import python_operators, reference
from detectron_ext.ops.operators import embedded_gaussian_attention

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _python_only(monkeypatch):
    monkeypatch.setattr("detectron_ext.ops.library.has_native", lambda operator: False)


def forward(operator, inputs, **arguments):
    return python_operators.python_operator(operator).forward(inputs, **arguments)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 11), st.integers(1, 11)), min_size=2, max_size=5),
    data=st.data(),
)
def test_a_pyramid_of_any_sizes_resolves_ties_as_the_definition_does(sizes, data):
    refine_level = data.draw(st.integers(0, len(sizes) - 1))
    random = np.random.RandomState(data.draw(st.integers(0, 99)))
    # Few distinct values: nearly every window has its maximum several times.
    levels = [random.randint(0, 3, (1, 2, *size)).astype(np.float32) for size in sizes]
    gather = python_operators.python_operator("BalancedPyramidGather")
    (mean,) = gather.forward(levels, refine_level=refine_level)
    d_mean = random.standard_normal(mean.shape).astype(np.float32)

    gradients = gather.backward([*levels, mean, d_mean], refine_level=refine_level)

    expected = reference.balanced_pyramid_gather(levels, refine_level=refine_level)
    assert relative_error(mean, expected) <= TOLERANCE
    expected = reference.balanced_pyramid_gather_gradient(levels, d_mean, refine_level=refine_level)
    for actual, wanted in zip(gradients, expected):
        assert relative_error(actual, wanted) <= TOLERANCE


def test_attention_in_blocks_equals_attention_in_one_block(monkeypatch):
    random = np.random.RandomState(3)
    inputs = [random.standard_normal((2, 4, 5, 6)).astype(np.float32) for _ in range(4)]
    operator = python_operators.python_operator("EmbeddedGaussianAttention")
    monkeypatch.setattr(embedded_gaussian_attention, "MAX_WEIGHTS", 7 * 30)

    (y,) = operator.forward(inputs[:3], use_scale=0)
    gradients = operator.backward([*inputs[:3], y, inputs[3]], use_scale=0)

    assert relative_error(y, reference.embedded_gaussian_attention(*inputs[:3])) <= TOLERANCE
    for actual, expected in zip(gradients, reference.embedded_gaussian_attention_gradient(*inputs)):
        assert relative_error(actual, expected) <= TOLERANCE


@pytest.mark.parametrize("operator", ["SigmoidFocalLoss", "SoftmaxFocalLoss"])
@pytest.mark.parametrize("size", [60.0, 500.0])
def test_focal_losses_stay_finite_and_correct_at_extreme_logits(operator, size):
    logits = np.array([-size, size, size, -size], np.float32).reshape(1, 4, 1, 1)
    labels = np.array([1, 1], np.int32).reshape(1, 2, 1, 1)
    inputs = [logits, labels, np.ones(1, np.float32)]
    arguments = {"gamma": 2.0, "alpha": 0.25, "scale": 1.0, "num_classes": 2}
    case = Case("", operator, inputs, arguments)
    python_operator = python_operators.python_operator(operator)

    outputs = python_operator.forward(inputs, **arguments)
    d_loss = np.ones((), np.float32)
    (gradient,) = python_operator.backward([*inputs, *outputs, d_loss], **arguments)

    expected = expected_outputs(case)[0]
    assert expected > 0
    assert relative_error(outputs[0], expected) <= TOLERANCE
    (expected,) = expected_gradients(case, [1.0])
    assert relative_error(gradient, expected) <= TOLERANCE


def select_with(**changes):
    y_hat, y, locations, fg_num = select_inputs(np.random.RandomState(0), 3, (1, 8, 4, 5), 3.0)
    named = {"y_hat": y_hat, "y": y, "locations": locations, "fg_num": fg_num, **changes}
    return list(named.values())


F = np.zeros


@pytest.mark.parametrize(
    ("operator", "inputs", "arguments", "parts"),
    [
        ("SmoothL1Loss", [F((2, 4)), F((3, 4)), F((2, 4)), F((2, 4))], {}, ["y", "(3, 4)"]),
        ("BalancedL1Loss", [F((2, 4)), F((2, 4)), F((2, 3)), F((2, 4))], {}, ["alpha_in (2, 3)"]),
        ("SelectBalancedL1Loss", select_with(y=F((2, 4))), {}, ["y (2, 4)", "(3, 4)"]),
        ("SelectBalancedL1Loss", select_with(y_hat=F((8, 4, 5))), {}, ["y_hat", "(8, 4, 5)"]),
        (
            "SelectSmoothL1Loss",
            select_with(locations=np.array([[0, 5, 0, 0]] * 3)),
            {},
            ["locations (3, 4)", "y_hat (1, 8, 4, 5)"],
        ),
        (
            "SelectSmoothL1Loss",
            select_with(locations=np.array([[0, 0, -1, 0]] * 3)),
            {},
            ["locations (3, 4)", "y_hat (1, 8, 4, 5)"],
        ),
        ("SelectSmoothL1Loss", select_with(fg_num=F(2)), {}, ["fg_num", "(2,)"]),
        ("GroupSpatialSoftmax", [F((1, 7, 2, 2))], {"num_classes": 3}, ["x (1, 7, 2, 2)", "3"]),
        ("UpsampleNearest", [F((2, 2))], {"scale": 2}, ["x", "(2, 2)"]),
        (
            "EmbeddedGaussianAttention",
            [F((1, 2, 3, 3)), F((1, 2, 3, 4)), F((1, 2, 3, 3))],
            {"use_scale": 0},
            ["phi (1, 2, 3, 4)", "theta (1, 2, 3, 3)"],
        ),
        (
            "BalancedPyramidGather",
            [F((1, 2, 4, 4)), F((1, 3, 2, 2))],
            {"refine_level": 0},
            ["level 1 (1, 3, 2, 2)", "level 0 (1, 2, 4, 4)"],
        ),
        ("BalancedPyramidGather", [F((1, 2, 4, 4))] * 2, {"refine_level": 2}, ["refine_level 2"]),
        (
            "BalancedPyramidScatter",
            [F((1, 2, 2, 2)), F((1, 2, 4, 4))],
            {"level": 0, "refine_level": 0},
            ["B (1, 2, 2, 2)", "level 0 (1, 2, 4, 4)"],
        ),
        (
            "BalancedPyramidScatter",
            [F((1, 2, 2, 2)), F((1, 3, 4, 4))],
            {"level": 1, "refine_level": 0},
            ["level 1 (1, 3, 4, 4)", "B (1, 2, 2, 2)"],
        ),
        (
            "BalancedPyramidScatter",
            [F((1, 2, 2, 2)), F((1, 2, 0, 4))],
            {"level": 1, "refine_level": 0},
            ["level 1 (1, 2, 0, 4)", "pixels"],
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(operator, inputs, arguments, parts):
    with pytest.raises(ValueError) as error:
        forward(operator, inputs, **arguments)

    for part in [operator, *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("operator", "max_label"),
    [("SigmoidFocalLoss", 3), ("WeightedSigmoidFocalLoss", 3), ("SoftmaxFocalLoss", 2)],
)
def test_focal_losses_refuse_inputs_that_do_not_fit(operator, max_label):
    arguments = {"gamma": 2.0, "alpha": 0.25, "scale": 1.0, "num_classes": 3}
    logits, fg_num = np.zeros((1, 6, 2, 2), np.float32), np.ones(1, np.float32)
    labels = np.zeros((1, 2, 2, 2), np.int32)
    weights = [np.ones(labels.shape)] if operator.startswith("Weighted") else []
    forward(operator, [logits, labels + max_label, fg_num, *weights], **arguments)

    with pytest.raises(ValueError, match=rf"{operator}: labels .* from -1 to {max_label}"):
        forward(operator, [logits, labels + max_label + 1, fg_num, *weights], **arguments)
    with pytest.raises(ValueError, match=rf"{operator}: labels .* from -1 to {max_label}"):
        forward(operator, [logits, labels - 2, fg_num, *weights], **arguments)
    with pytest.raises(ValueError, match=rf"{operator}: labels \(1, 1, 2, 2\)"):
        forward(operator, [logits, labels[:, :1], fg_num, *weights], **arguments)
    with pytest.raises(ValueError, match=rf"{operator}: logits \(1, 5, 2, 2\)"):
        forward(operator, [logits[:, :5], labels, fg_num, *weights], **arguments)


def test_no_regions_of_any_shape_give_no_features():
    x, arguments = np.ones((1, 2, 4, 4), np.float32), {"pooled_h": 2, "pooled_w": 3}
    for shape in ((0,), (0, 4), (0, 5)):
        rois = np.zeros(shape, np.float32)
        maxima, argmax = forward("RoIPoolF", [x, rois], spatial_scale=1.0, **arguments)
        assert maxima.shape == argmax.shape == (0, 2, 2, 3)
        arrays = [x, rois, maxima, argmax, maxima]
        (d_x,) = python_operators.python_operator("RoIPoolF").backward(
            arrays, spatial_scale=1.0, **arguments
        )
        np.testing.assert_array_equal(d_x, np.zeros_like(x))


@pytest.mark.parametrize("corner", [2e8, 1e20, -3e38, np.inf, np.nan])
def test_regions_with_huge_corners_are_refused_as_by_the_native_operator(corner):
    x, rois = np.ones((1, 2, 4, 4), np.float32), np.zeros((2, 5), np.float32)
    rois[1, 3] = corner
    with pytest.raises(ValueError, match=r"RoIPoolF: rois \(2, 5\) .* unusable number"):
        forward("RoIPoolF", [x, rois], pooled_h=2, pooled_w=2, spatial_scale=1.0)
    rois[1, 3] = 20
    with pytest.raises(ValueError, match="unusable number"):
        forward("RoIPoolF", [x, rois], pooled_h=2, pooled_w=2, spatial_scale=1e7)
    forward("RoIPoolF", [x, rois], pooled_h=2, pooled_w=2, spatial_scale=1e6)


@pytest.mark.parametrize("use_scale", [0, 1])
def test_attention_without_channels_is_empty(use_scale):
    """With no channels there is no score to divide by sqrt(C)."""
    empty = np.zeros((2, 0, 3, 2), np.float32)
    (y,) = forward("EmbeddedGaussianAttention", [empty] * 3, use_scale=use_scale)
    assert y.shape == empty.shape
    assert reference.embedded_gaussian_attention(*[empty] * 3, use_scale=use_scale).size == 0


def test_an_error_inside_a_net_reaches_the_caller():
    workspace.ResetWorkspace()
    workspace.FeedBlob("x", np.zeros((1, 7, 2, 2), np.float32))
    net = core.Net("wrong")
    python_operators.add(net, "GroupSpatialSoftmax", ["x"], ["y"], num_classes=3)

    with pytest.raises(ValueError, match="GroupSpatialSoftmax: x"):
        workspace.RunNetOnce(net)
