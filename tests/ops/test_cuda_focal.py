"""WeightedSigmoidFocalLoss of the CUDA kernels, run on the CPU by kernels/cuda_emulation.h."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_memory import partial_sums, unwritten
from native_runner import assert_close, needs_native, normal, run_with_gradient

from detectron_ext.ops import reference


def run_focal(kernels, logits, labels, fg_num, weights, gamma, classes):
    """Return the loss and the gradient of 1.7 times it, with an alpha of 0.3 and a scale of 0.5."""
    sizes = [labels[:, :, 0, 0].size, classes, labels[0, 0].size]
    loss, d_logits = unwritten(1), unwritten(*logits.shape)
    arguments = [*sizes, logits, labels, weights, fg_num, gamma, 0.3, 0.5]
    kernels("weighted_sigmoid_focal_loss", *arguments, partial_sums(kernels), loss)
    kernels("weighted_sigmoid_focal_gradient", *arguments, np.float32([1.7]), d_logits)
    return loss, d_logits


def focal_case(kernels, gamma, logits, labels, weights, classes):
    """Run the loss and its gradient and compare both with their definitions."""
    fg_num, d_loss = np.float32([5]), np.float32([1.7])
    arrays = [logits, labels, fg_num, weights]
    loss, d_logits = run_focal(kernels, *arrays, gamma, classes)
    named = {"gamma": gamma, "alpha": 0.3, "scale": 0.5, "num_classes": classes}
    assert_close(loss, [reference.weighted_sigmoid_focal_loss(*arrays, **named)])
    expected = reference.weighted_sigmoid_focal_loss_gradient(*arrays, d_loss, **named)
    assert_close(d_logits, expected)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize(
    ("classes", "height", "width"),
    # A thread takes up to 4 positions and 8 classes: sizes that are multiples of these, and others.
    [(4, 31, 29), (1, 1, 1), (8, 5, 4), (21, 6, 6)],
)
def test_weighted_sigmoid_focal_loss_equals_the_definition(kernels, gamma, classes, height, width):
    random = np.random.RandomState(0)
    labels = random.randint(-1, classes + 2, (2, 3, height, width)).astype(np.int32)
    logits = 4 * normal(random, 2, 3 * classes, height, width)
    logits.flat[::97] = 80 * np.sign(logits.flat[::97])
    weights = random.uniform(0, 2, labels.shape).astype(np.float32)
    focal_case(kernels, gamma, logits, labels, weights, classes)


def test_weighted_sigmoid_focal_loss_of_equal_easy_negatives(kernels):
    # As at the start of training. Errors of equal terms do not cancel.
    logits = np.full((1, 160, 4, 4), -7, np.float32)
    labels = np.zeros((1, 2, 4, 4), np.int32)
    focal_case(kernels, 2.0, logits, labels, np.ones_like(labels, np.float32), 80)


@pytest.mark.filterwarnings("ignore:invalid value encountered in logaddexp")
def test_ignored_anchors_may_have_any_logit_and_weight(kernels):
    random = np.random.RandomState(0)
    labels = random.randint(-1, 3, (1, 2, 4, 4)).astype(np.int32)
    logits = normal(random, 1, 4, 4, 4)
    logits.reshape(1, 2, 2, 4, 4)[:, :, 1][labels == -1] = np.nan
    weights = np.where(labels == -1, np.nan, 1).astype(np.float32)
    focal_case(kernels, 2.0, logits, labels, weights, 2)


@needs_native
@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_give_the_same_as_on_the_cpu(kernels, logit, label, gamma):
    logits = np.full((1, 1, 1, 1), logit, np.float32)
    labels, one = np.full((1, 1, 1, 1), label, np.int32), np.ones((1, 1, 1, 1), np.float32)
    inputs = [logits, labels, one.reshape(1), one]
    loss, d_logits = run_focal(kernels, *inputs, gamma, 1)
    named = {"gamma": gamma, "alpha": 0.3, "scale": 0.5, "num_classes": 1}
    d_loss = np.array(1.7, np.float32)
    (wanted,), gradients = run_with_gradient("WeightedSigmoidFocalLoss", inputs, d_loss, **named)
    np.testing.assert_allclose(loss[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(d_logits, gradients[0], rtol=1e-5)


def test_a_label_above_all_classes_counts_as_background(kernels):
    """CUDA does not check labels, as the schema says. On the CPU such a label is an error."""
    logits = normal(np.random.RandomState(0), 1, 3, 2, 2)
    labels, weights = np.zeros((1, 1, 2, 2), np.int32), np.ones((1, 1, 2, 2), np.float32)
    fg_num = np.ones(1, np.float32)
    background = run_focal(kernels, logits, labels, fg_num, weights, 2.0, 3)
    above = run_focal(kernels, logits, labels + 4, fg_num, weights, 2.0, 3)
    for actual, wanted in zip(above, background):
        np.testing.assert_array_equal(actual, wanted)


def test_a_number_of_anchors_that_is_nan_makes_all_results_nan(kernels):
    ones, labels = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.int32)
    fg_num = np.float32([np.nan])
    for result in run_focal(kernels, ones, labels, fg_num, ones, 2.0, 1):
        assert np.isnan(result).all()
