"""QualityFocalLoss: natively, in Python and as emulated CUDA kernels, beside its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from case_types import Case
from kernel_memory import partial_sums, unwritten
from native_runner import assert_close, needs_native, normal, run_operator
from operator_cases import expected_gradients, expected_outputs, run_case

from detectron_ext.ops import library, reference

NAME = "QualityFocalLoss"
OF_CUDA = {"positive_weight": 0.7, "negative_weight": 1.5, "scale": 0.5}


def run_natively(inputs, arguments):
    (loss,), (gradient,), _ = run_case(
        Case(NAME, NAME, inputs, arguments), [np.array(1.7, np.float32)]
    )
    return loss, gradient


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "python", "cuda"])
def run(request, monkeypatch):
    """A function (inputs, arguments) that returns the loss and the gradient of 1.7 times it."""
    if request.param != "cuda":
        if request.param == "python":
            monkeypatch.setattr(library, "has_native", lambda operator: False)
        return run_natively
    kernels = request.getfixturevalue("kernels")

    def run_kernels(inputs, arguments):
        logits, labels, fg_num, quality = inputs
        named = {"positive_weight": 1.0, "negative_weight": 1.0, "scale": 1.0, **arguments}
        sizes = [labels[:, :, 0, 0].size, named["num_classes"], labels[0, 0].size]
        numbers = [named[name] for name in ("beta", "positive_weight", "negative_weight", "scale")]
        common = [*sizes, logits, labels, quality, fg_num, *numbers]
        loss, d_logits = unwritten(1), unwritten(*logits.shape)
        kernels("quality_focal_loss", *common, partial_sums(kernels), loss)
        kernels("quality_focal_gradient", *common, np.float32([1.7]), d_logits)
        return loss[0], d_logits

    return run_kernels


def single(logit, label, quality):
    """Return the inputs of one logit."""
    return [
        np.full((1, 1, 1, 1), logit, np.float32),
        np.full((1, 1, 1, 1), label, np.int32),
        np.ones(1, np.float32),
        np.full((1, 1, 1, 1), quality, np.float32),
    ]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize(
    ("classes", "height", "width"), [(4, 31, 29), (1, 1, 1), (8, 5, 4), (21, 6, 6)]
)
def test_loss_and_gradient_equal_the_definition(run, beta, classes, height, width):
    random = np.random.RandomState(0)
    labels = random.randint(-1, classes + 1, (2, 3, height, width)).astype(np.int32)
    logits = 4 * normal(random, 2, 3 * classes, height, width)
    logits.flat[::97] = 80 * np.sign(logits.flat[::97])
    quality = random.uniform(0, 1, labels.shape).astype(np.float32)
    quality.flat[::3], quality.flat[1::3] = 0, 1
    inputs = [logits, labels, np.float32([5]), quality]
    arguments = {"beta": beta, "num_classes": classes, **OF_CUDA}
    loss, gradient = run(inputs, arguments)
    case = Case(NAME, NAME, inputs, arguments)
    assert_close(loss, expected_outputs(case)[0])
    assert_close(gradient, expected_gradients(case, [1.7])[0])


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("logit", [-60.0, -3.0, 0.0, 0.4, 3.0, 60.0])
@pytest.mark.parametrize("quality", [0.0, 0.3, 1.0])
def test_the_gradient_of_the_definition_is_its_derivative(beta, logit, quality):
    arguments = {"beta": beta, "num_classes": 1}
    inputs = [part.astype(float) for part in single(logit, 1, quality)]
    step = 1e-5
    above, below = (
        reference.quality_focal_loss(inputs[0] + sign * step, *inputs[1:], **arguments)
        for sign in (1, -1)
    )
    slope = reference.quality_focal_loss_gradient(*inputs, 1.0, **arguments)
    assert slope.item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("beta", [1.5, 2.0])
def test_loss_and_gradient_equal_those_of_pytorch(run, beta):
    random = np.random.RandomState(0)
    labels = random.randint(0, 4, (2, 2, 3, 5)).astype(np.int32)
    logits = 3 * normal(random, 2, 6, 3, 5)
    quality = random.uniform(0, 1, labels.shape).astype(np.float32)
    x = torch.from_numpy(logits).double().reshape(2, 2, 3, 3, 5).requires_grad_()
    is_own = torch.from_numpy(labels)[:, :, None] == torch.arange(1, 4).reshape(3, 1, 1)
    target = is_own * torch.from_numpy(quality).double()[:, :, None]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
    wanted = ((target - torch.sigmoid(x)).abs() ** beta * entropy).sum() / 4
    (1.7 * wanted).backward()
    inputs = [logits, labels, np.float32([4]), quality]
    loss, gradient = run(inputs, {"beta": beta, "num_classes": 3})
    assert_close(loss, wanted.item())
    assert_close(gradient, x.grad.numpy().reshape(logits.shape))


def test_values_computed_by_hand(run):
    """p = 0.5 and q = 0.75: 0.25^2 ln 2, and 0.25^2 (-0.25) + 2 (-0.25) 0.25 ln 2."""
    loss, gradient = run(single(0.0, 1, 0.75), {"beta": 2.0, "num_classes": 1})
    assert loss == pytest.approx(np.log(2) / 16, rel=1e-6)
    assert gradient.item() == pytest.approx(1.7 * (-1 / 64 - np.log(2) / 8), rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.5, 2.0])
def test_a_quality_of_one_is_the_focal_loss_without_alpha(run, beta):
    random = np.random.RandomState(0)
    labels = random.randint(-1, 4, (2, 3, 5, 7)).astype(np.int32)
    logits, fg_num = 3 * normal(random, 2, 9, 5, 7), np.float32([8])
    ones = np.ones(labels.shape, np.float32)
    loss, gradient = run([logits, labels, fg_num, ones], {"beta": beta, "num_classes": 3})
    named = {"gamma": beta, "alpha": 0.5, "num_classes": 3, "scale": 2.0}
    assert_close(loss, reference.sigmoid_focal_loss(logits, labels, fg_num, **named))
    wanted = reference.sigmoid_focal_loss_gradient(logits, labels, fg_num, 1.7, **named)
    assert_close(gradient, wanted)


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("quality", [0.0, 0.5, 1.0])
def test_the_gradient_is_zero_where_the_probability_is_the_quality(run, beta, quality):
    logit = {0.0: -200.0, 0.5: 0.0, 1.0: 200.0}[quality]
    loss, gradient = run(single(logit, 1, quality), {"beta": beta, "num_classes": 1})
    assert gradient.item() == 0
    entropy = np.log(2) if quality == 0.5 and beta == 0 else 0
    assert loss == pytest.approx(entropy, rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.5, 2.0])
@pytest.mark.parametrize(
    ("logit", "quality", "loss", "gradient"),
    [
        (np.inf, 1, 0, 0),
        (-np.inf, 0, 0, 0),
        (-np.inf, 1, np.inf, -1),
        (np.inf, 0, np.inf, 1),
        (np.nan, 0.5, np.nan, np.nan),
        (np.nan, 1, np.nan, np.nan),
        (1.0, np.nan, np.nan, np.nan),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_positives_that_are_not_finite_have_the_limits(run, beta, logit, quality, loss, gradient):
    actual = run(single(logit, 1, quality), {"beta": beta, "num_classes": 1})
    np.testing.assert_allclose(actual[0], loss)
    np.testing.assert_allclose(actual[1].item(), 1.7 * gradient, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quality_is_used_only_at_positives_and_ignored_anchors_may_be_anything(run):
    random = np.random.RandomState(0)
    labels = random.randint(-1, 3, (1, 2, 4, 4)).astype(np.int32)
    logits = normal(random, 1, 4, 4, 4)
    quality = random.uniform(0, 1, labels.shape).astype(np.float32)
    arguments = {"beta": 2.0, "num_classes": 2}
    wanted = run([logits, labels, np.float32([3]), quality], arguments)
    logits[np.repeat(labels == -1, 2, axis=1)] = np.nan
    quality[labels <= 0] = np.nan
    actual = run([logits, labels, np.float32([3]), quality], arguments)
    for one, other in zip(actual, wanted):
        np.testing.assert_array_equal(one, other)
    assert not actual[1][np.repeat(labels == -1, 2, axis=1)].any()


@pytest.mark.parametrize("quality", [-0.01, 1.01, np.inf])
@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_native), False])
def test_a_quality_outside_zero_to_one_is_refused_at_positives(monkeypatch, quality, native):
    if not native:
        monkeypatch.setattr(library, "has_native", lambda operator: False)
    arguments = {"beta": 2.0, "num_classes": 1}
    with pytest.raises(Exception, match="(Q|quality) .*from 0 to 1"):
        run_natively(single(0.0, 1, quality), arguments)
    run_natively(single(0.0, 0, quality), arguments)


LABELS = np.zeros((1, 2, 2, 2), np.int32)
MAP, LOGITS, ONE = np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 8, 2, 2), np.float32), (1,)


@needs_native
@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        ([LOGITS, LABELS, np.zeros(1, np.float32), LOGITS], {}, r"Q of shape \[1, 8, 2, 2\]"),
        ([LOGITS, LABELS, np.zeros(2, np.float32), MAP], {}, r"fg_num of shape \[2\]"),
        ([LOGITS, LABELS + 5, np.zeros(1, np.float32), MAP], {}, "holds 5"),
        ([MAP[:, :, :1], LABELS, np.zeros(1, np.float32), MAP], {}, "T of shape"),
        ([LOGITS, LABELS, np.zeros(1, np.float32), MAP], {"beta": -0.5}, "beta is -0.5"),
        ([LOGITS, LABELS, np.zeros(1, np.float32), MAP], {"beta": np.nan}, "beta is"),
        ([LOGITS, LABELS, np.zeros(1, np.float32), MAP], {"positive_weight": -1.0}, "positive_wei"),
        ([LOGITS, LABELS, np.zeros(1, np.float32), MAP], {"negative_weight": -1.0}, "negative_wei"),
        ([LOGITS, LABELS, np.zeros(1, np.float32), MAP], {"scale": -1.0}, "scale"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gradient", [False, True])
def test_wrong_inputs_and_arguments_are_refused(inputs, arguments, message, gradient):
    name = NAME + "Gradient" * gradient
    inputs = [*inputs, np.zeros((), np.float32)] if gradient else inputs
    with pytest.raises(RuntimeError, match=message):
        run_operator(name, inputs, num_classes=4, **arguments)
