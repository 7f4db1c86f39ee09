"""Numbers of selected anchors: what IoU means, edges, what is refused, and the CUDA kernels."""

from __future__ import annotations

import numpy as np
import pytest
from anchor_cases import anchor_places, focal_inputs, iou_inputs
from box_loss_cases import select_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_memory import partial_sums, unwritten
from libra_check import check
from native_runner import assert_close, needs_native, run_operator, run_with_gradient

from detectron_ext import ops
from detectron_ext.geometry.boxes import decode, pairwise_iou
from detectron_ext.ops import reference
from detectron_ext.ops.python_operators import python_operator

NAN, INFINITY = float("nan"), float("inf")
BACKENDS = [pytest.param("native", marks=needs_native), "python"]


def run(backend, operator, inputs, outputs=1, **arguments):
    if backend == "native":
        return run_operator(operator, inputs, outputs, **arguments)
    return python_operator(operator).forward(inputs, **arguments)


def box_iou(backend, predicted, true):
    """Return the IoUs of rows of deltas."""
    predicted, true = (np.asarray(rows, np.float32).reshape(-1, 4) for rows in (predicted, true))
    y_hat = np.ascontiguousarray(predicted.T[np.newaxis, :, np.newaxis])
    places = np.array([[0, 0, 0, i] for i in range(len(true))], np.float32)
    clip = float(np.float32(np.log(1000 / 16)))
    return run(backend, "SelectBoxIou", [y_hat, true, places], max_log_scale=clip)[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_iou_is_that_of_the_decoded_boxes(backend):
    """Whatever the anchor is: here one of 7 by 45 pixels."""
    random = np.random.RandomState(0)
    predicted, true = random.normal(0, 0.2, (2, 200, 4)).astype(np.float32)
    predicted[0, 2:] = 9  # is limited when it is decoded
    anchors = np.tile(np.float32([[100, 50, 106, 94]]), (200, 1))
    boxes, targets = decode(anchors, predicted), decode(anchors, true)
    expected = np.diag(pairwise_iou(boxes, targets))
    assert 0.02 > expected[0] > 0 and (expected > 0.5).sum() > 10
    np.testing.assert_allclose(box_iou(backend, predicted, true), expected, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([0.1, -0.2, 0.3, 0.4], [0.1, -0.2, 0.3, 0.4], 1),
        ([1e6, 0, 0, 0], [1e6, 0, 0, 0], 1),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0),  # the boxes touch
        ([0, 0, -INFINITY, -INFINITY], [0, 0, -INFINITY, -INFINITY], 0),
        ([INFINITY, 0, 0, 0], [0, 0, 0, 0], 0),
        ([0, 0, INFINITY, 0], [0, 0, np.log(1000 / 16), 0], 1),
        ([0, 0, 0, 0], [0, 0, 3e38, 3e38], 0),
        ([0, 0, 0, 0], [0, 0, 1000, -1000], 0),
        ([NAN, 0, 0, 0], [0, 0, 0, 0], NAN),
        ([0, 0, 0, NAN], [0, 0, 0, 0], NAN),
        ([0, 0, 0, 0], [0, 0, NAN, 0], NAN),
    ],
)
def test_the_iou_of_extreme_deltas(backend, predicted, true, expected):
    np.testing.assert_allclose(box_iou(backend, predicted, true), [expected], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_losses_of_all_anchors_add_up_to_the_focal_loss(backend):
    random = np.random.RandomState(1)
    shape = (2, 3, 4, 5)
    logits, labels, places = focal_inputs(random, 120, 6, shape, 4)
    arguments = {"gamma": 2.0, "alpha": 0.25, "num_classes": 6}
    losses, scores = run(
        backend, "SelectSigmoidFocalLoss", [logits, labels, places], 2, channels=4, **arguments
    )
    whole = reference.sigmoid_focal_loss(logits, labels, 0.0, **arguments)
    assert_close(np.sum(losses, dtype=np.float64).astype(np.float32), whole)
    at = (places[:, 0].astype(int), places[:, 1].astype(int) // 4, *places[:, 2:].astype(int).T)
    assert (np.asarray(losses)[labels[at] == -1] == 0).all()
    assert ((np.asarray(scores) > 0) == (labels[at] > 0)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_logits_give_finite_losses(backend):
    logits = np.array([-1e4, -100, 100, 1e4], np.float32).reshape(1, 1, 1, 4)
    places = np.array([[0, 0, 0, i] for i in range(4)], np.float32)
    for label in (0, 1):
        labels = np.full((1, 1, 1, 4), label, np.int32)
        losses, scores = run(
            backend, "SelectSigmoidFocalLoss", [logits, labels, places], 2,
            gamma=2.0, alpha=0.25, num_classes=1, channels=4,
        )  # fmt: skip
        assert np.isfinite(losses).all() and np.isfinite(scores).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_factors_of_an_anchor_count(backend):
    weights, places = np.full((1, 2, 1, 2), 3, np.float32), np.zeros((3, 4), np.float32)
    places[1, 1] = 4
    factors = np.float32([2, 0.5, 5])
    (scaled,) = run(backend, "ScaleAnchors", [weights, factors, places], channels=4)
    np.testing.assert_array_equal(scaled, [[[[30, 3]], [[1.5, 3]]]])
    assert (weights == 3).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 9)])
def test_no_rows_of_any_shape(backend, shape):
    empty, weights = np.zeros(shape, np.float32), np.ones((1, 2, 3, 3), np.float32)
    y_hat, labels = np.ones((1, 8, 3, 3), np.float32), np.ones((1, 2, 3, 3), np.int32)
    (iou,) = run(backend, "SelectBoxIou", [y_hat, empty, empty], max_log_scale=4.0)
    losses, scores = run(
        backend, "SelectSigmoidFocalLoss", [y_hat, labels, empty], 2,
        gamma=2.0, alpha=0.25, num_classes=4, channels=4,
    )  # fmt: skip
    (scaled,) = run(backend, "ScaleAnchors", [weights, empty, empty], channels=4)
    assert iou.shape == losses.shape == scores.shape == (0,)
    np.testing.assert_array_equal(scaled, weights)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


MAP, LABELS, ROW = zeros(1, 8, 2, 3), zeros(1, 2, 2, 3, dtype=np.int32), zeros(1, 4)
IOU, FOCAL, SCALE = "SelectBoxIou", "SelectSigmoidFocalLoss", "ScaleAnchors"


def at(*place):
    return np.array([place], np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("operator", "inputs", "arguments", "part"),
    [
        (IOU, [zeros(8, 2, 3), ROW, ROW], {}, "8, 2, 3"),
        (IOU, [MAP, zeros(2, 4), ROW], {}, "2, 4"),
        (IOU, [MAP, zeros(1, 5), zeros(1, 5)], {}, "1, 5"),
        (IOU, [MAP, zeros(0, 4), ROW], {}, "1, 4"),
        *((IOU, [MAP, ROW, at(*place)], {}, "outside") for place in (
            (1, 0, 0, 0), (0, 5, 0, 0), (0, 0, 2, 0), (0, 0, 0, 3), (0, 0, -1, 0), (NAN, 0, 0, 0),
            (0, 0, 0, 1e30),
        )),
        (FOCAL, [MAP, LABELS, at(0, 8, 0, 0)], {"num_classes": 4}, "outside"),
        (FOCAL, [MAP, LABELS, at(0, 0, 0, NAN)], {"num_classes": 4}, "outside"),
        (FOCAL, [MAP, LABELS, zeros(4)], {"num_classes": 4}, r"\(M, 4\)"),
        (FOCAL, [MAP, LABELS, ROW], {"num_classes": 3}, "1, 8, 2, 3"),
        (FOCAL, [MAP, LABELS[0], ROW], {"num_classes": 4}, "2, 2, 3"),
        (SCALE, [zeros(2, 2, 3), zeros(1), ROW], {}, "2, 2, 3"),
        (SCALE, [zeros(1, 2, 2, 3), zeros(2), ROW], {}, "one number for each"),
        (SCALE, [zeros(1, 2, 2, 3), zeros(1), at(0, 8, 0, 0)], {}, "outside"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_refused(backend, operator, inputs, arguments, part):
    defaults = {
        IOU: {"max_log_scale": 4.0},
        FOCAL: {"gamma": 2.0, "alpha": 0.25, "channels": 4},
        SCALE: {"channels": 4},
    }
    outputs = 2 if operator == FOCAL else 1
    with pytest.raises((RuntimeError, ValueError), match=f"(?s){operator}: .*{part}"):
        run(backend, operator, inputs, outputs, **{**defaults[operator], **arguments})


def add(name, inputs):
    return lambda **arguments: getattr(ops, name)(ops_net(), *inputs, **arguments)


def ops_net():
    from caffe2.python import core

    return core.Net("n")


ADD_IOU = add("select_box_iou", "abco")
ADD_FOCAL = add("select_sigmoid_focal_loss", "abcop")
ADD_SCALE = add("scale_anchors", "abco")


@pytest.mark.parametrize(
    ("functions", "arguments"),
    [
        ([ADD_IOU], {"max_log_scale": 0}),
        ([ADD_IOU], {"max_log_scale": NAN}),
        ([ADD_FOCAL], {"gamma": -1.0}),
        ([ADD_FOCAL], {"alpha": 1.5}),
        ([ADD_FOCAL], {"num_classes": 0}),
        ([ADD_FOCAL, ADD_SCALE], {"channels": 0}),
        ([ADD_FOCAL, ADD_SCALE], {"channels": 6}),
        ([ADD_FOCAL, ADD_SCALE], {"channels": 4.0}),
    ],
)
def test_an_argument_out_of_range_is_refused_and_named(functions, arguments):
    (name,) = arguments
    for function in functions:
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            function(**arguments)


@needs_native
@pytest.mark.parametrize(
    ("operator", "outputs", "arguments"),
    [
        (IOU, 1, {"max_log_scale": -1.0}),
        (FOCAL, 2, {"gamma": -1.0}),
        (FOCAL, 2, {"alpha": 1.5}),
        (FOCAL, 2, {"num_classes": 0}),
        (FOCAL, 2, {"channels": 2}),
        (SCALE, 1, {"channels": 6}),
    ],
)
def test_the_native_operator_refuses_bad_arguments(operator, outputs, arguments):
    with pytest.raises(RuntimeError, match=f"{operator}: {next(iter(arguments))} is"):
        run_operator(operator, [zeros(1)] * 3, outputs, **arguments)


@needs_native
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), rows=st.integers(0, 40), spread=st.sampled_from([0.1, 3.0]))
def test_native_and_python_give_the_same_ious(seed, rows, spread):
    y_hat, y, places = iou_inputs(np.random.RandomState(seed), rows, (2, 8, 5, 4))
    inputs = [spread * y_hat, y, places]
    (native,) = run("native", IOU, inputs, max_log_scale=0.5)
    (python,) = run("python", IOU, inputs, max_log_scale=0.5)
    np.testing.assert_allclose(native, python, atol=1e-6)
    assert ((native >= 0) & (native <= 1)).all()


# --- Box losses with weights of the rows

WEIGHTED = ["WeightedSelectSmoothL1Loss", "WeightedSelectBalancedL1Loss"]


@needs_native
@pytest.mark.parametrize("operator", WEIGHTED)
def test_a_box_loss_with_weights_of_1_has_the_bits_of_the_one_without(operator):
    inputs = select_inputs(np.random.RandomState(0), 50, (2, 12, 7, 5), 9.0)
    plain, gradients = run_with_gradient(operator.replace("Weighted", ""), inputs, beta=0.11)
    ones = np.ones(50, np.float32)
    weighted, others = run_with_gradient(operator, [*inputs, ones], beta=0.11)
    assert plain[0] == weighted[0]
    assert list(others) == [0]
    np.testing.assert_array_equal(gradients[0], others[0])


@needs_native
@pytest.mark.parametrize("operator", WEIGHTED)
def test_weighted_rows_of_one_place_all_count(operator):
    y_hat = np.full((1, 4, 1, 1), 3.0, np.float32)
    rows = np.zeros((2, 4), np.float32)
    check(operator, [y_hat, rows, rows, np.ones(1, np.float32), np.float32([0.25, 2])])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operator", WEIGHTED)
@pytest.mark.parametrize("weights", [(0,), (2,), (1, 2)])
def test_a_wrong_number_of_weights_is_refused(backend, operator, weights):
    inputs = [MAP, ROW, ROW, zeros(1), zeros(*weights)]
    arguments = {"beta": 1.0, "scale": 1.0}
    if "Balanced" in operator:
        arguments.update(alpha=0.5, gamma=1.5, formula="continuous")
    with pytest.raises((RuntimeError, ValueError), match=f"(?s){operator}: .*one number for each"):
        run(backend, operator, inputs, **arguments)


@pytest.mark.parametrize("rows", [1, 200])
def test_cuda_weighted_balanced_l1_equals_the_definition(kernels, rows):
    random = np.random.RandomState(0)
    inputs = select_inputs(random, rows, (2, 12, 7, 5), 9.0)
    y_hat, y, places, fg_num = inputs
    places[rows // 2] = places[0]
    weights, d_loss = random.uniform(0, 2, rows).astype(np.float32), np.float32([1.7])
    selection = [0.5, 1.5, 0.11, 0, y_hat.shape, y_hat, rows, y, places, fg_num, weights, 3.0]
    loss, d_y_hat = unwritten(1), unwritten(*y_hat.shape)
    kernels("select_balanced_l1_loss", *selection, partial_sums(kernels), loss)
    scratch = unwritten(kernels.size("select_scratch", rows), dtype=np.int32)
    kernels("select_balanced_l1_gradient", *selection, d_loss, d_y_hat, scratch)
    named = {"beta": float(np.float32(0.11)), "scale": 3.0}
    wanted = reference.weighted_select_balanced_l1_loss(*inputs, weights, **named)
    assert_close(loss, [wanted])
    wanted = reference.weighted_select_balanced_l1_loss_gradient(*inputs, weights, d_loss, **named)
    assert_close(d_y_hat, wanted)


# --- The CUDA kernels, run on the CPU by kernels/cuda_emulation.h


@pytest.mark.parametrize("rows", [1, 300])
def test_cuda_iou_equals_the_definition(kernels, rows):
    inputs = iou_inputs(np.random.RandomState(0), rows, (2, 12, 9, 7))
    y_hat, y, places = inputs
    iou = unwritten(rows)
    kernels("select_box_iou", y_hat.shape, y_hat, rows, y, places, 0.25, iou)
    assert_close(iou, reference.select_box_iou(*inputs, max_log_scale=0.25))


@pytest.mark.parametrize(("gamma", "channels"), [(2.0, 4), (1.5, 20), (0.0, 4)])
def test_cuda_focal_loss_equals_the_definition(kernels, gamma, channels):
    shape = (2, 3, 9, 7)
    inputs = focal_inputs(np.random.RandomState(0), 300, 5, shape, channels)
    logits, labels, places = inputs
    loss, p = unwritten(300), unwritten(300)
    sizes = (*shape, channels)
    kernels("select_focal_loss", sizes, logits, labels, 5, 300, places, gamma, 0.3, loss, p)
    named = {"gamma": gamma, "alpha": 0.3, "num_classes": 5, "channels": channels}
    for actual, wanted in zip((loss, p), reference.select_sigmoid_focal_loss(*inputs, **named)):
        assert_close(actual, wanted)


def test_cuda_scales_anchors_also_where_rows_share_them(kernels):
    random = np.random.RandomState(0)
    weights = random.uniform(0, 2, (2, 3, 9, 7)).astype(np.float32)
    places, factors = anchor_places(random, 300, weights.shape), random.uniform(0, 2, 300)
    places[[50, 299]] = places[3]
    factors = factors.astype(np.float32)
    scaled = unwritten(*weights.shape)
    kernels("scale_anchors", (*weights.shape, 4), weights, 300, factors, places, scaled)
    assert_close(scaled, reference.scale_anchors(weights, factors, places))
    alone = unwritten(*weights.shape)
    kernels("scale_anchors", (*weights.shape, 4), weights, 0, factors, places, alone)
    np.testing.assert_array_equal(alone, weights)
