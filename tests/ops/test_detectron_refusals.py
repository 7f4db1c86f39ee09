"""What Detectron's operators reject on the CPU, and that the message says why."""

from __future__ import annotations

import numpy as np
import pytest
from native_runner import needs_native, run_operator

pytestmark = needs_native


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def ints(*shape):
    return zeros(*shape, dtype=np.int32)


def select(row, rows=None):
    places = np.array([row], np.float32)
    return [zeros(2, 8, 3, 5), zeros(rows or 1, 4), places, zeros(1)]


OUTPUTS = {"SoftmaxFocalLoss": 2, "RoIPoolF": 2, "PSRoIPool": 2}
BAD_INPUTS = [
    ("SmoothL1Loss", [zeros(3, 4), zeros(2, 4), zeros(3, 4), zeros(3, 4)], {}, r"Y .*2, 4.*3, 4"),
    ("SmoothL1Loss", [zeros(3, 4), zeros(3, 4), zeros(3, 4), zeros(3, 2)], {}, "alpha_out.*3, 2"),
    ("SmoothL1Loss", [zeros()] * 4, {}, "Y_hat must have a first axis"),
    ("SmoothL1LossGradient", [zeros(3, 4)] * 4 + [zeros(2)], {}, r"d_loss of shape \[2\]"),
    ("SelectSmoothL1LossGradient", [*select([0, 6, 0, 0]), zeros(1)], {}, "row 0 of L"),
    ("SelectSmoothL1Loss", [zeros(8, 3, 5), *select([0] * 4)[1:]], {}, r"Y_hat .*\[8, 3, 5\]"),
    ("SelectSmoothL1Loss", [*select([0] * 4)[:3], zeros(2)], {}, r"S of shape \[2\]"),
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
        r"T of shape \[1, 2, 2, 2\] .*\[1, 6, 2, 2\]",
    ),
    (
        "SigmoidFocalLoss",
        [zeros(1, 8, 2, 2), ints(1, 2, 2, 2), zeros(3)],
        {"num_classes": 4},
        r"fg_num of shape \[3\]",
    ),
    (
        "SigmoidFocalLoss",
        [zeros(1, 8, 2, 2), ints(1, 2, 2, 2) + 5, zeros(1)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 2, 2\] holds 5, .*\[1, 8, 2, 2\] .* at most 4",
    ),
    (
        "SigmoidFocalLossGradient",
        [zeros(1, 8, 2, 2), ints(2, 2, 2), zeros(1), zeros(1)],
        {"num_classes": 4},
        r"T of shape \[2, 2, 2\] .*\[1, 8, 2, 2\]",
    ),
    (
        "SoftmaxFocalLoss",
        [zeros(1, 4, 1, 1), ints(1, 1, 1, 1) + 4, zeros(1)],
        {"num_classes": 4},
        r"holds 4.*\[1, 4, 1, 1\]",
    ),
    (
        "SoftmaxFocalLoss",
        [zeros(1, 4, 1, 1), ints(1, 2, 1, 1), zeros(1)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 1, 1\] .*\[1, 4, 1, 1\]",
    ),
    (
        "SoftmaxFocalLossGradient",
        [zeros(1, 4, 1, 1), ints(1, 1, 1, 1), zeros(1), zeros(3), zeros(1)],
        {"num_classes": 4},
        r"probabilities of shape \[3\] .*\[1, 4, 1, 1\]",
    ),
    ("GroupSpatialSoftmax", [zeros(6, 2, 2)], {"num_classes": 3}, r"X of shape \[6, 2, 2\]"),
    (
        "GroupSpatialSoftmaxGradient",
        [zeros(1, 4, 2, 2), zeros(1, 4, 2, 3)],
        {"num_classes": 4},
        r"d_probabilities of shape \[1, 4, 2, 3\] .*\[1, 4, 2, 2\]",
    ),
    ("GroupSpatialSoftmax", [zeros(1, 6, 2, 2)], {"num_classes": 4}, r"\[1, 6, 2, 2\] cannot"),
    ("SigmoidCrossEntropyLoss", [zeros(2, 3), ints(2, 2)], {}, r"\[2, 2\].*\[2, 3\]"),
    (
        "SigmoidCrossEntropyLossGradient",
        [zeros(2, 3), ints(2, 2), zeros(1)],
        {},
        r"targets of shape \[2, 2\].*\[2, 3\]",
    ),
    ("SigmoidCrossEntropyLossGradient", [zeros(2, 3), ints(2, 3), zeros(2)], {}, r"d_loss .*\[2\]"),
    ("UpsampleNearestGradient", [zeros(1, 2, 3), zeros(1, 4, 5)], {}, r"dY .*1, 4, 5.*1, 2, 3"),
    ("UpsampleNearest", [zeros(2, 3)], {}, r"X of shape \[2, 3\]"),
    ("SpatialNarrowAs", [zeros(1, 2, 3, 3), zeros(1, 2, 4, 3)], {}, r"\[1, 2, 3, 3\].*1, 2, 4, 3"),
    ("SpatialNarrowAs", [zeros(2, 3, 3), zeros(2, 2, 3)], {}, r"A of shape \[2, 3, 3\]"),
    ("SpatialNarrowAs", [zeros(1, 2, 3, 3), zeros(2, 3, 3)], {}, r"\[1, 2, 3, 3\].*\[2, 3, 3\]"),
    ("SpatialNarrowAs", [zeros(1, 2, 3, 3), zeros(3)], {}, r"\[1, 2, 3, 3\].*\[3\]"),
    (
        "SpatialNarrowAsGradient",
        [zeros(1, 2, 3, 3), zeros(1, 2, 2), zeros(1, 2, 3, 2)],
        {},
        r"dC of shape \[1, 2, 3, 2\].*\[1, 2, 3, 3\]",
    ),
    ("SampleAsGradient", [zeros(3, 2), ints(3) + 1, zeros(2, 2)], {}, r"dY .*\[2, 2\].*\[3, 2\]"),
    ("SampleAs", [zeros(3, 2), ints(2)], {}, r"labels of shape \[2\].*\[3, 2\]"),
    ("RoIPoolF", [zeros(1, 2, 3, 3), zeros(1, 4)], {}, r"RoIs of shape \[1, 4\]"),
    (
        "RoIPoolF",
        [zeros(1, 2, 3, 3), np.float32([[1, 0, 0, 1, 1]])],
        {},
        r"row 0 of RoIs .*\[1, 2, 3, 3\]",
    ),
    ("RoIPoolF", [zeros(1, 2, 3, 3), np.float32([[0, np.nan, 0, 1, 1]])], {}, "row 0 of RoIs"),
    ("RoIPoolF", [zeros(2, 3, 3), zeros(1, 5)], {}, r"X of shape \[2, 3, 3\]"),
    (
        "RoIPoolFGradient",
        [zeros(1, 2, 3, 3), zeros(1, 5), ints(1, 2, 1, 1) + 9, zeros(1, 2, 1, 1)],
        {},
        r"argmaxes .* hold 9, outside X of shape \[1, 2, 3, 3\]",
    ),
    (
        "RoIPoolFGradient",
        [zeros(1, 2, 3, 3), zeros(1, 5), ints(1, 2, 1, 2), zeros(1, 2, 1, 1)],
        {},
        r"argmaxes of shape \[1, 2, 1, 2\].*\[1, 2, 3, 3\]",
    ),
    (
        "RoIPoolFGradient",
        [zeros(1, 2, 3, 3), zeros(1, 5), ints(1, 2, 1, 1), zeros(1, 2, 1, 2)],
        {},
        r"dY of shape \[1, 2, 1, 2\].*\[1, 2, 3, 3\]",
    ),
    (
        "PSRoIPoolGradient",
        [zeros(1, 2, 3, 3), zeros(1, 5), ints(2, 1, 1, 1), zeros(1, 1, 1, 1)],
        {},
        r"argmaxes of shape \[2, 1, 1, 1\].*\[1, 2, 3, 3\]",
    ),
    (
        "PSRoIPoolGradient",
        [zeros(1, 2, 3, 3), zeros(1, 5), ints(1, 1, 1, 1), zeros(2, 1, 1, 1)],
        {},
        r"dY of shape \[2, 1, 1, 1\].*\[1, 2, 3, 3\]",
    ),
    ("PSRoIPool", [zeros(1, 3, 3, 3), zeros(1, 5)], {"group_size": 2}, r"\[1, 3, 3, 3\] has too"),
]


@pytest.mark.parametrize(("operator", "inputs", "arguments", "message"), BAD_INPUTS)
def test_bad_input_is_refused_with_its_name_and_shapes(operator, inputs, arguments, message):
    with pytest.raises(RuntimeError, match=f"(?s){operator}: .*{message}"):
        run_operator(operator, inputs, OUTPUTS.get(operator, 1), **arguments)


NAN = float("nan")


@pytest.mark.parametrize(
    ("operator", "inputs", "arguments"),
    [
        ("SmoothL1Loss", 4, {"beta": 0.0}),
        ("SmoothL1LossGradient", 5, {"beta": NAN}),
        ("SelectSmoothL1Loss", 4, {"beta": -1.0}),
        ("SelectSmoothL1Loss", 4, {"scale": -1.0}),
        ("SelectSmoothL1LossGradient", 5, {"scale": NAN}),
        ("SigmoidFocalLoss", 3, {"gamma": -0.5}),
        ("SigmoidFocalLoss", 3, {"alpha": NAN}),
        ("SigmoidFocalLossGradient", 4, {"alpha": 1.5}),
        ("SigmoidFocalLoss", 3, {"num_classes": 0}),
        ("SoftmaxFocalLoss", 3, {"gamma": NAN}),
        ("SoftmaxFocalLossGradient", 5, {"alpha": -0.1}),
        ("SoftmaxFocalLoss", 3, {"num_classes": 0}),
        ("SoftmaxFocalLoss", 3, {"order": "NHWC"}),
        ("GroupSpatialSoftmax", 1, {"num_classes": 0}),
        ("GroupSpatialSoftmaxGradient", 2, {"order": "NHWC"}),
        ("UpsampleNearest", 1, {"scale": 0}),
        ("UpsampleNearestGradient", 2, {"scale": -1}),
        ("SigmoidCrossEntropyLoss", 2, {"normalize": 2}),
        ("SigmoidCrossEntropyLoss", 2, {"scale": NAN}),
        ("RoIPoolF", 2, {"spatial_scale": 0.0}),
        ("RoIPoolFGradient", 4, {"spatial_scale": NAN}),
        ("RoIPoolF", 2, {"pooled_h": 0}),
        ("PSRoIPool", 2, {"group_size": 0}),
        ("PSRoIPoolGradient", 4, {"output_dim": 0}),
    ],
)
def test_bad_argument_is_refused_with_its_name(operator, inputs, arguments):
    with pytest.raises(RuntimeError, match=f"{operator}: {next(iter(arguments))} is"):
        run_operator(operator, [zeros(1)] * inputs, OUTPUTS.get(operator, 1), **arguments)
