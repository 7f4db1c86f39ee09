"""The float64 definitions: gradients against differences, values against PyTorch and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from case_inputs import make_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import differentiable, expected_gradients, output_gradients
from random_seed import SEED
from torch_peer import needs_recent_torch

from detectron_ext.ops import reference
from detectron_ext.ops.table import OPERATORS

CASES = make_cases(SEED)
STEP = 1e-6

sides = st.integers(1, 13)


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_gradient_is_the_limit_of_central_differences(case):
    d_outputs = [np.float64(d_output) for d_output in output_gradients(case, SEED)]
    gradients = expected_gradients(case, d_outputs)
    random = np.random.RandomState(SEED)

    def objective(inputs):
        outputs = OPERATORS[case.operator].reference(inputs, **case.arguments)
        return sum((output * d).sum() for output, d in zip(outputs, d_outputs))

    indices = differentiable(case.operator, len(case.inputs))
    assert len(gradients) == len(indices)
    for index, gradient in zip(indices, gradients):
        for _ in range(3):
            direction = random.standard_normal(case.inputs[index].shape)
            moved = [
                [*case.inputs[:index], case.inputs[index] + step * direction]
                + case.inputs[index + 1 :]
                for step in (STEP, -STEP)
            ]
            difference = (objective(moved[0]) - objective(moved[1])) / (2 * STEP)
            tolerance = 1e-6 * np.linalg.norm(gradient) * np.linalg.norm(direction) + 1e-8
            assert difference == pytest.approx((gradient * direction).sum(), abs=tolerance)


def naive_balanced_l1_slope(x, alpha, gamma):
    """The gradient of equation 9 of the paper."""
    b = np.exp(gamma / alpha) - 1
    return np.sign(x) * np.where(np.abs(x) < 1, alpha * np.log(b * np.abs(x) + 1), gamma)


@pytest.mark.parametrize("formula", ["continuous", "mmdet"])
def test_balanced_l1_equals_the_papers_formula_at_beta_one(formula):
    x = np.linspace(-3, 3, 121)
    for alpha, gamma in [(0.5, 1.5), (0.2, 1.0), (1.0, 1.5)]:
        slope = reference.balanced_l1_slope(x, alpha, gamma, 1.0, formula)
        np.testing.assert_allclose(slope, naive_balanced_l1_slope(x, alpha, gamma), atol=1e-12)
        assert reference.balanced_l1(np.zeros(1), alpha, gamma, 1.0, formula) == 0


@given(alpha=st.floats(0.1, 2), gamma=st.floats(0.1, 2), beta=st.floats(0.02, 5))
def test_continuous_formula_has_no_jump(alpha, gamma, beta):
    arguments = (alpha, gamma, beta, "continuous")
    below, above = np.nextafter(beta, 0), np.nextafter(beta, np.inf)
    tiny = 1e-12 * np.array([-1, 1])
    slope_of_slope = alpha * (np.exp(gamma / alpha) - 1) / beta

    for function in (reference.balanced_l1, reference.balanced_l1_slope):
        assert function(below, *arguments) == pytest.approx(function(above, *arguments), rel=1e-9)
    assert reference.balanced_l1_slope(above, *arguments) == pytest.approx(gamma)
    slopes = reference.balanced_l1_slope(tiny, *arguments)
    assert np.abs(slopes).max() <= 1.01 * slope_of_slope * 1e-12


def test_mmdet_formula_jumps_at_zero_below_beta_one():
    slope = reference.balanced_l1_slope(np.array([1e-12]), 0.5, 1.5, 0.11, "mmdet")

    assert slope[0] == pytest.approx(0.5 * (1 / 0.11 - 1), rel=1e-6)


@pytest.mark.parametrize("formula", ["continuous", "mmdet"])
@pytest.mark.parametrize("beta", [0.11, 1.0, 2.0])
def test_slopes_at_the_kinks(formula, beta):
    slopes = reference.balanced_l1_slope(np.array([-beta, 0, beta]), 0.5, 1.5, beta, formula)
    np.testing.assert_array_equal(slopes, [-1.5, 0, 1.5])
    slopes = reference.smooth_l1_slope(np.array([-beta, 0, beta]), beta)
    np.testing.assert_array_equal(slopes, [-1, 0, 1])


@needs_recent_torch
def test_smooth_l1_loss_equals_pytorchs():
    random = np.random.RandomState(0)
    y_hat, y = random.standard_normal((2, 9, 4))
    ones = np.ones((9, 4))

    loss = reference.smooth_l1_loss(y_hat, y, ones, ones, beta=0.3, scale=2.0)

    expected = F.smooth_l1_loss(torch.tensor(y_hat), torch.tensor(y), beta=0.3, reduction="sum")
    assert loss == pytest.approx(2 / 9 * expected.item())


def test_select_losses_divide_by_fg_num_or_at_least_by_one():
    y_hat, y = np.zeros((1, 4, 2, 2)), np.full((1, 4), 10.0)
    location = np.array([[0, 0, 1, 1]])
    losses = [
        reference.select_smooth_l1_loss(y_hat, y, location, np.array([fg_num]), scale=3.0)
        for fg_num in (0, 0.5, 1, 4)
    ]

    np.testing.assert_allclose(losses, 3 * 4 * 9.5 / np.array([1, 1, 1, 4]))


def test_sigmoid_focal_loss_of_one_anchor_by_hand():
    logits = np.log([3.0, 1.0, 1 / 3]).reshape(1, 3, 1, 1)  # probabilities 0.75, 0.5, 0.25
    arguments = {"gamma": 2.0, "alpha": 0.25, "scale": 2.0, "num_classes": 3}

    def loss(label, fg_num):
        labels = np.full((1, 1, 1, 1), label)
        return reference.sigmoid_focal_loss(logits, labels, fg_num, **arguments)

    negatives = -0.75 * np.array([0.75, 0.5, 0.25]) ** 2 * np.log([0.25, 0.5, 0.75])
    positive = -0.25 * 0.25**2 * np.log(0.75)
    assert loss(0, 1.0) == pytest.approx(2 * negatives.sum())
    assert loss(1, 0.0) == pytest.approx(2 * (positive + negatives[1:].sum()))
    assert loss(1, 4.0) == pytest.approx(2 * (positive + negatives[1:].sum()) / 4)
    assert loss(-1, 1.0) == 0


def test_weights_multiply_an_anchors_terms():
    random = np.random.RandomState(0)
    logits = random.standard_normal((1, 4, 1, 1))
    labels = np.array([1, 0]).reshape(1, 2, 1, 1)
    arguments = {"num_classes": 2}

    def loss(*weights):
        weights = np.reshape(weights, (1, 2, 1, 1))
        return reference.weighted_sigmoid_focal_loss(logits, labels, 1.0, weights, **arguments)

    assert loss(2, 3) == pytest.approx(2 * loss(1, 0) + 3 * loss(0, 1))
    assert loss(1, 1) == pytest.approx(
        reference.sigmoid_focal_loss(logits, labels, 1.0, **arguments)
    )


def test_softmax_focal_loss_of_one_anchor_by_hand():
    logits = np.log([2.0, 1.0, 1.0]).reshape(1, 3, 1, 1)  # probabilities 0.5, 0.25, 0.25
    arguments = {"gamma": 2.0, "alpha": 0.25, "num_classes": 3}

    def loss(label):
        labels = np.full((1, 1, 1, 1), label)
        return reference.softmax_focal_loss(logits, labels, 2.0, **arguments)[0]

    assert loss(0) == pytest.approx(-0.75 * 0.5**2 * np.log(0.5) / 2)
    assert loss(1) == pytest.approx(-0.25 * 0.75**2 * np.log(0.25) / 2)
    assert loss(-1) == 0


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, pooled_height=sides, pooled_width=sides)
def test_adaptive_max_pool_equals_pytorchs_also_for_ties(
    height, width, pooled_height, pooled_width
):
    random = np.random.RandomState(height + 13 * width)
    x = random.randint(0, 3, (2, 2, height, width)).astype(np.float64)
    d_y = random.standard_normal((2, 2, pooled_height, pooled_width))
    tensor = torch.tensor(x, requires_grad=True)
    expected = F.adaptive_max_pool2d(tensor, (pooled_height, pooled_width))
    expected.backward(torch.tensor(d_y))

    y = reference.adaptive_max_pool(x, pooled_height, pooled_width)

    np.testing.assert_array_equal(y, expected.detach().numpy())
    gradient = reference.adaptive_max_pool_gradient(x, d_y)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, new_height=sides, new_width=sides)
def test_nearest_resize_equals_pytorchs(height, width, new_height, new_width):
    random = np.random.RandomState(height + 13 * width)
    x = random.standard_normal((2, 2, height, width))
    d_y = random.standard_normal((2, 2, new_height, new_width))
    tensor = torch.tensor(x, requires_grad=True)
    expected = F.interpolate(tensor, size=(new_height, new_width), mode="nearest")
    expected.backward(torch.tensor(d_y))

    y = reference.nearest_resize(x, new_height, new_width)

    np.testing.assert_array_equal(y, expected.detach().numpy())
    gradient = reference.nearest_resize_gradient(x, d_y)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), atol=1e-12)


def test_upsampling_is_the_nearest_resize_to_a_multiple():
    x = np.random.RandomState(0).standard_normal((2, 3, 4, 5))

    np.testing.assert_array_equal(
        reference.upsample_nearest(x, scale=3), reference.nearest_resize(x, 12, 15)
    )


def test_gather_of_equal_levels_is_the_level_and_scatter_doubles_it():
    level = np.random.RandomState(0).standard_normal((1, 2, 3, 3))

    mean = reference.balanced_pyramid_gather([level] * 3, refine_level=1)
    results = reference.balanced_pyramid_scatter(mean, [level] * 3, refine_level=1)

    np.testing.assert_allclose(mean, level)
    for result in results:
        np.testing.assert_allclose(result, 2 * level)


@pytest.mark.parametrize("use_scale", [0, 1])
def test_attention_of_two_positions_by_hand(use_scale):
    theta = np.array([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 1, 2)
    phi = np.array([[1.0, 3.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)
    g = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)
    divisor = np.sqrt(2) if use_scale else 1.0

    y = reference.embedded_gaussian_attention(theta, phi, g, use_scale=use_scale)

    # theta . phi is [[1, 3], [0, 2]]: either position prefers the second by 2 / divisor.
    first = 1 / (1 + np.exp(2 / divisor))
    np.testing.assert_allclose(y.reshape(2, 2), [[first, first], [1 - first, 1 - first]])


def test_group_softmax_equals_pytorchs():
    x = np.random.RandomState(0).standard_normal((2, 6, 3, 4)) * 20

    y = reference.group_spatial_softmax(x, num_classes=3)

    expected = torch.softmax(torch.tensor(x).reshape(2, 2, 3, 3, 4), dim=2).reshape(x.shape)
    np.testing.assert_allclose(y, expected.numpy(), atol=1e-15)
