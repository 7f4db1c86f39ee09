"""The native losses of Libra R-CNN: numbers, gradients, edges."""

from __future__ import annotations

import numpy as np
import pytest
from box_loss_cases import select_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from libra_check import check
from native_runner import assert_close, needs_native, normal, run_operator, run_with_gradient

from detectron_ext.ops.loss_arguments import balanced_l1_arguments
from detectron_ext.ops.python_operators import python_operator

pytestmark = needs_native

ONE = np.ones(1, np.float32)
FORMULAS = ["continuous", "mmdet"]
few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 33)
seeds = st.integers(0, 2**31 - 1)


@few
@given(
    seed=seeds,
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    alpha=st.floats(0.1, 2.0),
    gamma=st.floats(0.3, 3.0),
    beta=st.floats(0.05, 3.0),
    formula=st.sampled_from(FORMULAS),
    spread=st.sampled_from([1e-4, 0.1, 1.0, 100.0]),
)
def test_balanced_l1_equals_the_definition_for_any_shape_and_argument(
    seed, shape, alpha, gamma, beta, formula, spread
):
    random = np.random.RandomState(seed)
    y_hat = spread * normal(random, *shape)
    y = np.zeros_like(y_hat)  # so that differences are exact in both precisions
    weights = [random.uniform(0, 2, shape).astype(np.float32) for _ in range(2)]
    # The definition gets the arguments as the operator does, as floats.
    alpha, gamma, beta = (float(np.float32(v)) for v in (alpha, gamma, beta))
    # Products at a kink may fall on either side of it in either precision.
    at_kink = np.abs(np.abs(weights[0] * y_hat) - beta) < 1e-5 * beta
    weights[1][at_kink] = 0
    arguments = {"alpha": alpha, "gamma": gamma, "beta": beta, "formula": formula}
    check("BalancedL1Loss", [y_hat, y, *weights], **arguments)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("beta", [1.0, 0.11])
def test_balanced_l1_at_its_kinks(formula, beta):
    beta = float(np.float32(beta))
    y_hat = np.array([0.0, beta, -beta, np.nextafter(np.float32(beta), np.float32(0))], np.float32)
    for x in y_hat:
        inputs = [np.array([x], np.float32), np.zeros(1, np.float32), ONE, ONE]
        check("BalancedL1Loss", inputs, beta=beta, formula=formula)
    (loss,), gradients = run_with_gradient(
        "BalancedL1Loss", [y_hat[:1], np.zeros(1, np.float32), ONE, ONE], beta=beta, formula=formula
    )
    assert loss == 0
    assert gradients[0] == 0


@pytest.mark.parametrize(
    ("formula", "beta"),
    [("continuous", 1e-6), ("continuous", 1e6), ("mmdet", 1e-6), ("mmdet", 1.0)],
)
@pytest.mark.parametrize(
    ("alpha", "gamma"), [(1e-3, 1e-3), (1e-3, 0.06), (1e3, 1e-3), (1e3, 1e3), (1e6, 1e-3)]
)
def test_balanced_l1_at_the_ends_of_its_range(alpha, gamma, beta, formula):
    """The Python operator computes in float64, which loses digits if gamma is far below alpha."""
    arguments = {
        "alpha": float(np.float32(alpha)),
        "gamma": float(np.float32(gamma)),
        "beta": float(np.float32(beta)),
        "formula": formula,
    }
    balanced_l1_arguments(scale=1.0, **arguments)  # as the front-ends check them
    for share in (0.5, 0.99, 3.0):
        y_hat = np.array([share * beta], np.float32)
        inputs = [y_hat, np.zeros_like(y_hat), ONE, ONE]
        check("BalancedL1Loss", inputs, **arguments)
        (loss,) = python_operator("BalancedL1Loss").forward(inputs, scale=1.0, **arguments)
        assert loss > 0


@pytest.mark.parametrize("x", [1e-12, 1e-6, 1e-4, 7e-4, 0.003, 0.02])
def test_balanced_l1_of_small_differences_does_not_cancel(x):
    x = np.float32(x)
    inputs = [np.array([v], np.float32) for v in (x, 0, 1, 1)]
    (loss,), gradients = run_with_gradient("BalancedL1Loss", inputs)
    alpha, b = np.longdouble(0.5), np.expm1(np.longdouble(3))
    t = b * np.longdouble(x)
    assert loss == pytest.approx(float(alpha / b * ((1 + t) * np.log1p(t) - t)), rel=2e-6, abs=0)
    assert gradients[0] == pytest.approx(float(alpha * np.log1p(t)), rel=1e-6, abs=0)


def test_balanced_l1_of_nan_and_infinity():
    for x, slope in ((np.nan, np.nan), (np.inf, 1.5), (-np.inf, -1.5)):
        inputs = [np.array([v], np.float32) for v in (x, 0, 1, 1)]
        (loss,), gradients = run_with_gradient("BalancedL1Loss", inputs)
        assert np.array_equal(loss, np.abs(x), equal_nan=True)
        assert np.array_equal(gradients[0], [slope], equal_nan=True)


def test_balanced_l1_accepts_inputs_of_other_shapes_with_the_same_size():
    random = np.random.RandomState(0)
    y_hat = normal(random, 6, 8)
    others = [normal(random, 6, 8) for _ in range(3)]
    (whole,) = run_operator("BalancedL1Loss", [y_hat, *others])
    shaped = [others[0].reshape(6, 2, 4), others[1].ravel(), others[2].reshape(3, 16)]
    (reshaped,) = run_operator("BalancedL1Loss", [y_hat, *shaped])
    assert whole == reshaped


@few
@given(
    seed=seeds,
    n=st.integers(1, 3),
    anchors=st.integers(1, 4),
    height=sizes,
    width=sizes,
    share=st.floats(0, 1),
    fg_num=st.sampled_from([0.0, 0.5, 7.0]),
    formula=st.sampled_from(FORMULAS),
)
def test_select_balanced_l1_equals_the_definition_for_any_shape(
    seed, n, anchors, height, width, share, fg_num, formula
):
    random = np.random.RandomState(seed)
    rows = int(share * min(n * anchors * height * width, 200))
    inputs = select_inputs(random, rows, (n, 4 * anchors, height, width), fg_num)
    check("SelectBalancedL1Loss", inputs, beta=0.5, scale=3.0, formula=formula)


def test_rows_that_select_the_same_prediction_all_count():
    y_hat = np.full((1, 4, 1, 1), 3.0, np.float32)
    inputs = [y_hat, np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32), ONE]
    check("SelectBalancedL1Loss", inputs)


def test_empty_rows_of_any_shape_give_a_zero_loss():
    for shape in ((0,), (0, 4), (1, 0)):
        empty = np.zeros(shape, np.float32)
        y_hat = np.ones((2, 8, 3, 4), np.float32)
        (loss,), gradients = run_with_gradient("SelectBalancedL1Loss", [y_hat, empty, empty, ONE])
        assert loss == 0
        assert np.array_equal(gradients[0], np.zeros_like(y_hat))


# --- Weighted sigmoid focal loss


@few
@given(
    seed=seeds,
    classes=st.integers(1, 20),
    anchors=st.integers(1, 3),
    height=sizes,
    width=sizes,
    gamma=st.sampled_from([0.0, 0.7, 1.0, 2.0, 3.5]),
    fg_num=st.sampled_from([0.0, 12.0]),
)
def test_weighted_focal_loss_equals_the_definition_for_any_shape(
    seed, classes, anchors, height, width, gamma, fg_num
):
    random = np.random.RandomState(seed)
    logits = 4 * normal(random, 2, anchors * classes, height, width)
    labels = random.randint(-1, classes + 1, (2, anchors, height, width)).astype(np.int32)
    weights = random.uniform(0, 2, labels.shape).astype(np.float32)
    inputs = [logits, labels, np.array([fg_num], np.float32), weights]
    check("WeightedSigmoidFocalLoss", inputs, gamma=gamma, num_classes=classes, scale=0.5)


def test_weighted_focal_loss_with_all_weights_1_is_the_focal_loss():
    random = np.random.RandomState(0)
    logits = normal(random, 2, 12, 5, 7)
    labels = random.randint(-1, 5, (2, 3, 5, 7)).astype(np.int32)
    inputs, arguments = [logits, labels, ONE], {"num_classes": 4, "gamma": 2.0}
    plain, plain_gradients = run_with_gradient("SigmoidFocalLoss", inputs, **arguments)
    weights = np.ones(labels.shape, np.float32)
    weighted, gradients = run_with_gradient(
        "WeightedSigmoidFocalLoss", [*inputs, weights], **arguments
    )
    assert_close(weighted[0], plain[0], 1e-6)
    assert_close(gradients[0], plain_gradients[0], 1e-6)


def test_weighted_focal_loss_of_extreme_logits_is_finite():
    logits = np.array([-1e4, -100, -50, 0, 50, 100, 1e4], np.float32).reshape(1, 1, 1, 7)
    for label in (-1, 0, 1):
        labels = np.full((1, 1, 1, 7), label, np.int32)
        for gamma in (0.0, 1.5, 2.0):
            (loss,), gradients = run_with_gradient(
                "WeightedSigmoidFocalLoss",
                [logits, labels, np.zeros(1, np.float32), np.ones((1, 1, 1, 7), np.float32)],
                num_classes=1,
                gamma=gamma,
            )
            assert np.isfinite(loss)
            assert np.isfinite(gradients[0]).all()
