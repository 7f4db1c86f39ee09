"""Detectron's own operators on the CPU: numbers, gradients, edges, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from native_runner import (
    assert_close,
    needs_native,
    normal,
    run_operator,
    run_with_gradient,
    threads,
)
from operator_cases import DEFINITIONS, ROIS, make_cases, output_gradients, run_case

from detectron_ext.ops import reference
from detectron_ext.ops.library import DETECTRON_OPERATORS

pytestmark = needs_native

CASES = [case for case in make_cases(seed=3) if case.operator in DETECTRON_OPERATORS]


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_equals_the_definition_forward_and_backward(case):
    definition = DEFINITIONS[case.operator]
    d_outputs = output_gradients(case)
    outputs, gradients, operator_type = run_case(case, d_outputs)

    assert operator_type == case.operator
    for actual, expected in zip(outputs, definition.forward(case.inputs, **case.arguments)):
        assert_close(actual, expected)
    expected_gradients = definition.gradient(case.inputs, d_outputs, **case.arguments)
    for actual, expected in zip(gradients, expected_gradients):
        assert_close(actual, expected)


def big_inputs(operator: str, random: np.random.RandomState):
    """Return inputs that fill several blocks of work, and the arguments."""
    x = 3 * normal(random, 2, 12, 70, 81)
    fg_num = np.array([9.0], np.float32)
    labels = random.randint(-1, 4, (2, 3, 70, 81)).astype(np.int32)
    if operator in ("SigmoidFocalLoss", "SoftmaxFocalLoss"):
        return [x, labels, fg_num], {"num_classes": 4, "gamma": 1.7}
    if operator == "SelectSmoothL1Loss":
        places = [random.randint(0, high, 500) for high in (2, 3, 70, 81)]
        places[1] *= 4
        rows = np.stack(places, axis=1).astype(np.float32)
        return [x, normal(random, 500, 4), rows, fg_num], {"beta": 0.11}
    if operator == "SmoothL1Loss":
        return [x, normal(random, *x.shape), np.abs(x), np.abs(x)], {}
    if operator == "SigmoidCrossEntropyLoss":
        return [x, random.randint(-1, 2, x.shape).astype(np.int32)], {}
    if operator == "SpatialNarrowAs":
        return [x, x[..., :60, :70]], {}
    if operator in ("RoIPoolF", "PSRoIPool"):
        corners = np.sort(random.uniform(0, 300, (60, 2, 2)), axis=1).reshape(60, 4)
        rois = np.hstack([random.randint(0, 2, (60, 1)), corners]).astype(np.float32)
        sizes = (
            {"pooled_h": 3, "pooled_w": 4}
            if operator == "RoIPoolF"
            else {"group_size": 2, "output_dim": 3}
        )
        return [x, rois], {"spatial_scale": 0.25, **sizes}
    return [x], {"num_classes": 4} if operator == "GroupSpatialSoftmax" else {}


OUTPUTS = {"SoftmaxFocalLoss": 2, "RoIPoolF": 2, "PSRoIPool": 2}


@pytest.mark.parametrize("operator", [*sorted(DETECTRON_OPERATORS), "PSRoIPool"])
def test_same_bits_for_any_number_of_threads(operator):
    inputs, arguments = big_inputs(operator, np.random.RandomState(0))
    runs = []
    for count in (1, 2, 3, 2):
        with threads(count):
            runs.append(
                run_with_gradient(operator, inputs, outputs=OUTPUTS.get(operator, 1), **arguments)
            )
    outputs, gradients = runs[0]
    for other_outputs, other_gradients in runs[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(outputs, other_outputs))
        assert np.array_equal(gradients[0], other_gradients[0])


def test_extreme_logits_stay_finite():
    logits = np.array([-200, -100, -50, 0, 50, 100, 200], np.float32).reshape(1, 1, 1, 7)
    for label in (0, 1):
        labels = np.full((1, 1, 1, 7), label, np.int32)
        (loss,), gradients = run_with_gradient(
            "SigmoidFocalLoss", [logits, labels, np.zeros(1, np.float32)], num_classes=1, gamma=2.0
        )
        assert np.isfinite(loss) and np.isfinite(gradients[0]).all()
    (loss,), gradients = run_with_gradient("SigmoidCrossEntropyLoss", [logits, labels])
    assert np.isfinite(loss) and np.isfinite(gradients[0]).all()


def test_a_place_selected_twice_counts_twice():
    y_hat = np.full((1, 4, 1, 1), 3.0, np.float32)
    rows = np.zeros((2, 4), np.float32)
    inputs = [y_hat, np.zeros((2, 4), np.float32), rows, np.ones(1, np.float32)]
    (loss,), gradients = run_with_gradient("SelectSmoothL1Loss", inputs)
    assert loss == pytest.approx(2 * 4 * 2.5)
    assert np.array_equal(gradients[0].ravel(), [2, 2, 2, 2])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("b_shape", [(2, 3, 4, 5), (2, 4, 5), (2, 6, 7), (2, 0, 5)])
def test_spatial_narrow_as(dtype, b_shape):
    random = np.random.RandomState(5)
    a = random.randint(-9, 9, (2, 3, 6, 7)).astype(dtype)
    height, width = b_shape[-2:]
    d_c = random.randint(-9, 9, (2, 3, height, width)).astype(dtype)
    (c,), gradients = run_with_gradient("SpatialNarrowAs", [a, np.zeros(b_shape, dtype)], d_c)
    expected = np.zeros_like(a)
    expected[:, :, :height, :width] = d_c
    assert np.array_equal(c, a[:, :, :height, :width])
    assert np.array_equal(gradients[0], expected)


@pytest.mark.parametrize("labels", [[1, 0, -1, 80], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_sample_as(labels):
    random = np.random.RandomState(6)
    x, labels = normal(random, 4, 3, 2), np.array(labels, np.int32)
    d_y = normal(random, (labels > 0).sum(), 3, 2)
    (y,), gradients = run_with_gradient("SampleAs", [x, labels], d_y)
    expected = np.zeros_like(x)
    expected[labels > 0] = d_y
    assert np.array_equal(y, x[labels > 0])
    assert np.array_equal(gradients[0], expected)


def test_of_equal_maxima_the_first_has_the_gradient():
    random = np.random.RandomState(7)
    x = random.randint(-3, 3, (2, 3, 10, 14)).astype(np.float32)
    d_y = normal(random, len(ROIS), 3, 2, 3)
    arguments = {"pooled_h": 2, "pooled_w": 3, "spatial_scale": 0.5}
    (y, argmax), gradients = run_with_gradient("RoIPoolF", [x, ROIS], d_y, outputs=2, **arguments)
    expected, expected_argmax = reference.roi_max_pool(x, ROIS, **arguments)
    assert np.array_equal(y, expected)
    assert np.array_equal(argmax, expected_argmax)
    assert (argmax[-1] == -1).all()
    assert_close(gradients[0], reference.roi_max_pool_gradient(x, ROIS, argmax, d_y))


def mean_bins(roi, scale, bins, size):
    """Return the rows or columns of each bin of PSRoIPool between two corners."""
    low, high = (np.floor(abs(v) + 0.5) * np.sign(v) for v in roi)
    start = np.float32(low) * np.float32(scale)
    step = np.float32(max(np.float32(high + 1) * np.float32(scale) - start, 0.1)) / np.float32(bins)
    return [
        (
            int(np.clip(np.floor(np.float32(i) * step + start), 0, size)),
            int(np.clip(np.ceil(np.float32(i + 1) * step + start), 0, size)),
        )
        for i in range(bins)
    ]


def test_position_sensitive_roi_pool():
    random = np.random.RandomState(8)
    x, scale = normal(random, 2, 13, 10, 14), 0.5  # one channel more than is read
    d_y = normal(random, len(ROIS), 3, 2, 2)
    expected, d_x = np.zeros(d_y.shape), np.zeros(x.shape)
    for r, (image, x1, y1, x2, y2) in enumerate(ROIS):
        for i, (top, bottom) in enumerate(mean_bins((y1, y2), scale, 2, 10)):
            for j, (left, right) in enumerate(mean_bins((x1, x2), scale, 2, 14)):
                for o in range(3):
                    window = (int(image), o * 4 + i * 2 + j, slice(top, bottom), slice(left, right))
                    if x[window].size:
                        expected[r, o, i, j] = x[window].astype(np.float64).mean()
                        d_x[window] += d_y[r, o, i, j] / x[window].size
    (y, channels), gradients = run_with_gradient(
        "PSRoIPool", [x, ROIS], d_y, outputs=2, spatial_scale=scale, group_size=2, output_dim=3
    )
    assert_close(y, expected)
    assert np.array_equal(channels[0].ravel(), np.arange(12))
    assert_close(gradients[0], d_x)


@pytest.mark.parametrize(
    ("operator", "arguments", "channels"),
    [
        ("RoIPoolF", {"pooled_h": 2, "pooled_w": 2}, 3),
        ("PSRoIPool", {"group_size": 2, "output_dim": 3}, 3),
    ],
)
def test_no_rois(operator, arguments, channels):
    x = np.ones((1, 12 if operator == "PSRoIPool" else 3, 4, 4), np.float32)
    (y, _), gradients = run_with_gradient(
        operator, [x, np.zeros((0, 5), np.float32)], outputs=2, **arguments
    )
    assert y.shape == (0, channels, 2, 2)
    assert np.array_equal(gradients[0], np.zeros_like(x))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def ints(*shape):
    return zeros(*shape, dtype=np.int32)


def select(row, rows=None):
    places = np.array([row], np.float32)
    return [zeros(2, 8, 3, 5), zeros(rows or 1, 4), places, zeros(1)]


BAD_INPUTS = [
    ("SmoothL1Loss", [zeros(3, 4), zeros(2, 4), zeros(3, 4), zeros(3, 4)], {}, r"\[3, 4\].*\[2, 4"),
    ("SmoothL1Loss", [zeros(3, 4), zeros(3, 4), zeros(3, 4), zeros(3, 2)], {}, "alpha_out.*3, 2"),
    ("SelectSmoothL1Loss", select([2, 0, 0, 0]), {}, r"row 0 of L .*\(2, 0, 0, 0\).*2, 8, 3, 5"),
    ("SelectSmoothL1Loss", select([0, 5, 0, 0]), {}, r"\(0, 5, 0, 0\)"),
    ("SelectSmoothL1Loss", select([0, 0, 3, 0]), {}, r"\(0, 0, 3, 0\)"),
    ("SelectSmoothL1Loss", select([0, 0, 0, -1]), {}, r"\(0, 0, 0, -1\)"),
    ("SelectSmoothL1Loss", select([np.nan, 0, 0, 0]), {}, "outside Y_hat"),
    ("SelectSmoothL1Loss", select([0, 0, 0, 0], rows=2), {}, r"Y of shape \[2, 4\] and L of shape"),
    (
        "SigmoidFocalLoss",
        [zeros(1, 6, 2, 2), ints(1, 2, 2, 2), zeros(1)],
        {"num_classes": 4},
        r"targets of shape \[1, 2, 2, 2\] .*\[1, 6, 2, 2\]",
    ),
    (
        "SigmoidFocalLoss",
        [zeros(1, 8, 2, 2), ints(1, 2, 2, 2), zeros(3)],
        {"num_classes": 4},
        r"fg_num of shape \[3\]",
    ),
    (
        "SoftmaxFocalLoss",
        [zeros(1, 4, 1, 1), ints(1, 1, 1, 1) + 4, zeros(1)],
        {"num_classes": 4},
        r"hold 4.*\[1, 4, 1, 1\]",
    ),
    ("GroupSpatialSoftmax", [zeros(1, 6, 2, 2)], {"num_classes": 4}, r"\[1, 6, 2, 2\] cannot"),
    ("SigmoidCrossEntropyLoss", [zeros(2, 3), ints(2, 2)], {}, r"\[2, 2\].*\[2, 3\]"),
    ("UpsampleNearest", [zeros(2, 3)], {}, r"X of shape \[2, 3\]"),
    ("SpatialNarrowAs", [zeros(1, 2, 3, 3), zeros(1, 2, 4, 3)], {}, r"\[1, 2, 3, 3\].*1, 2, 4, 3"),
    ("SampleAs", [zeros(3, 2), ints(2)], {}, r"labels of shape \[2\].*\[3, 2\]"),
    ("RoIPoolF", [zeros(1, 2, 3, 3), zeros(1, 4)], {}, r"RoIs of shape \[1, 4\]"),
    (
        "RoIPoolF",
        [zeros(1, 2, 3, 3), np.float32([[1, 0, 0, 1, 1]])],
        {},
        r"row 0 of RoIs .*\[1, 2, 3, 3\]",
    ),
    ("RoIPoolF", [zeros(1, 2, 3, 3), np.float32([[0, np.nan, 0, 1, 1]])], {}, "row 0 of RoIs"),
    ("PSRoIPool", [zeros(1, 3, 3, 3), zeros(1, 5)], {"group_size": 2}, r"\[1, 3, 3, 3\] has too"),
]


@pytest.mark.parametrize(("operator", "inputs", "arguments", "message"), BAD_INPUTS)
def test_bad_input_is_refused_by_name_and_shapes(operator, inputs, arguments, message):
    with pytest.raises(RuntimeError, match=f"(?s){operator}: .*{message}"):
        run_operator(operator, inputs, OUTPUTS.get(operator, 1), **arguments)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("SmoothL1Loss", {"beta": 0.0}),
        ("SelectSmoothL1Loss", {"beta": -1.0}),
        ("SelectSmoothL1Loss", {"scale": -1.0}),
        ("SigmoidFocalLoss", {"gamma": -0.5}),
        ("SigmoidFocalLoss", {"num_classes": 0}),
        ("UpsampleNearest", {"scale": 0}),
        ("SigmoidCrossEntropyLoss", {"normalize": 2}),
        ("RoIPoolF", {"spatial_scale": 0.0}),
    ],
)
def test_bad_argument_is_refused_by_name(operator, arguments):
    inputs = {"SmoothL1Loss": 4, "SelectSmoothL1Loss": 4, "SigmoidFocalLoss": 3}
    arrays = [zeros(1)] * inputs.get(operator, 1 if operator == "UpsampleNearest" else 2)
    with pytest.raises(RuntimeError, match=f"{operator}: {next(iter(arguments))} is"):
        run_operator(operator, arrays, OUTPUTS.get(operator, 1), **arguments)
