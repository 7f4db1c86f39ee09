"""The focal losses at extreme, infinite and NaN logits: natively and in Python."""

from __future__ import annotations

import numpy as np
import pytest
from case_types import Case
from native_runner import assert_close, needs_native, normal
from operator_cases import expected_gradients, expected_outputs, run_case

from detectron_ext.ops import library

FOCAL_LOSSES = ["SigmoidFocalLoss", "WeightedSigmoidFocalLoss", "SoftmaxFocalLoss"]
LOG_OF_SMALLEST = np.log(np.finfo(np.float32).tiny)


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "python"])
def either(request, monkeypatch):
    """Run the test with native operators, then with Python operators."""
    if request.param == "python":
        monkeypatch.setattr(library, "has_native", lambda operator: False)


def focal_case(operator, logits, labels, classes, gamma=2.0):
    inputs = [logits, labels, np.ones(1, np.float32)]
    if operator.startswith("Weighted"):
        inputs.append(np.full(labels.shape, 0.5, np.float32))
    arguments = {"gamma": gamma, "alpha": 0.25, "scale": 1.0, "num_classes": classes}
    return Case(operator, operator, inputs, arguments)


def run(case):
    """Return the loss and the gradient of the logits."""
    (loss, *_), (gradient,), _ = run_case(case, [np.array(1, np.float32)])
    return loss, gradient


@pytest.mark.parametrize("operator", FOCAL_LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_the_loss_of_a_very_wrong_positive_is_limited(either, operator, gamma):
    softmax = operator.startswith("Softmax")
    values, label = ([0.0, -88.0], 1) if softmax else ([-200.0], 1)
    logits = np.array(values, np.float32).reshape(1, -1, 1, 1)
    case = focal_case(operator, logits, np.full((1, 1, 1, 1), label, np.int32), len(values), gamma)
    loss, gradient = run(case)

    weight = 0.5 if operator.startswith("Weighted") else 1.0
    assert loss == pytest.approx(-0.25 * weight * LOG_OF_SMALLEST, rel=1e-6)
    assert_close(loss, expected_outputs(case)[0], 1e-6)
    (wanted,) = expected_gradients(case, [1.0])
    assert_close(gradient, wanted, 1e-6)
    assert np.abs(gradient).max() == pytest.approx(0.25 * weight, rel=1e-6)


@pytest.mark.parametrize("operator", FOCAL_LOSSES[:2])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize(
    ("logit", "label", "wanted_loss", "wanted_gradient"),
    [
        (np.inf, 0, np.inf, np.nan),
        (-np.inf, 0, 0, 0),
        (np.inf, 1, 0, 0),
        (-np.inf, 1, -0.25 * LOG_OF_SMALLEST, -0.25),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_logits_give_the_limits_of_the_loss(
    either, operator, gamma, logit, label, wanted_loss, wanted_gradient
):
    logits = np.full((1, 1, 1, 1), logit, np.float32)
    labels = np.full((1, 1, 1, 1), label, np.int32)
    loss, gradient = run(focal_case(operator, logits, labels, 1, gamma))

    weight = 0.5 if operator.startswith("Weighted") else 1.0
    np.testing.assert_allclose(loss, weight * wanted_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient.item(), weight * wanted_gradient, rtol=1e-6)


@pytest.mark.parametrize("operator", FOCAL_LOSSES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ignored_anchors_may_have_any_logit(either, operator, value):
    random = np.random.RandomState(0)
    labels = random.randint(-1, 3, (1, 2, 4, 4)).astype(np.int32)
    logits = normal(random, 1, 6, 4, 4)
    ignored = np.repeat(labels == -1, 3, axis=1)
    logits[ignored] = value
    case = focal_case(operator, logits, labels, 3)
    if operator.startswith("Weighted"):
        case.inputs[3][labels == -1] = value
    loss, gradient = run(case)

    finite = focal_case(operator, np.where(ignored, np.float32(0), logits), labels, 3)
    wanted_loss, wanted = run(finite)
    assert_close(loss, wanted_loss, 1e-6)
    assert_close(gradient, wanted, 1e-6)
    assert not gradient[ignored].any()
    assert_close(loss, expected_outputs(case)[0])
    (wanted,) = expected_gradients(case, [1.0])
    assert_close(gradient, wanted)
