"""What the native operators of Libra R-CNN reject, and that the message says why."""

from __future__ import annotations

import numpy as np
import pytest
from native_runner import needs_native, run_operator

pytestmark = needs_native


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def select(row, rows=1):
    return [zeros(2, 8, 3, 5), zeros(rows, 4), np.array([row], np.float32), zeros(1)]


def pyramid(*shapes):
    return [zeros(*shape) for shape in shapes]


def block(changes, *more):
    """Return the inputs of a non-local block of 3 filters; `changes` replaces shapes by index."""
    filters, biases = (3, 2, 1, 1), (3,)
    shapes = [(1, 2, 4, 4), *[filters, biases] * 3, (2, 3, 1, 1), (2,), *more]
    return [zeros(*changes.get(i, shape)) for i, shape in enumerate(shapes)]


GATHER, SCATTER = "BalancedPyramidGather", "BalancedPyramidScatter"
FOCAL, ATTENTION = "WeightedSigmoidFocalLoss", "EmbeddedGaussianAttention"
BLOCK, AFFINE = "NonLocalBlock", "AffineChannelClip"
LEVEL = (1, 2, 4, 4)
LABELS = zeros(1, 2, 2, 2, dtype=np.int32)
BOXES = zeros(3, 4)
BAD_INPUTS = [
    ("BalancedL1Loss", [BOXES, zeros(2, 6), BOXES, BOXES], {}, r"Y of .*2, 6.*3, 4"),
    ("BalancedL1Loss", [BOXES, zeros(), BOXES, BOXES], {}, r"Y of shape \[\].*3, 4"),
    ("BalancedL1Loss", [BOXES, BOXES, zeros(3, 3), BOXES], {}, r"alpha_in .*3, 3.*3, 4"),
    ("BalancedL1Loss", [BOXES, BOXES, BOXES, zeros(1)], {}, r"alpha_out .*1.*3, 4"),
    ("BalancedL1Loss", [zeros()] * 4, {}, "Y_hat"),
    ("SelectBalancedL1Loss", select([2, 0, 0, 0]), {}, r"row 0 of L .*\(2, 0, 0, 0\).*2, 8, 3, 5"),
    ("SelectBalancedL1Loss", select([0, 5, 0, 0]), {}, r"\(0, 5, 0, 0\)"),
    ("SelectBalancedL1Loss", select([0, 0, 3, 0]), {}, r"\(0, 0, 3, 0\)"),
    ("SelectBalancedL1Loss", select([0, 0, 0, -1]), {}, r"\(0, 0, 0, -1\)"),
    ("SelectBalancedL1Loss", select([0, 0, 0, 1e30]), {}, "outside Y_hat"),
    ("SelectBalancedL1Loss", select([np.nan, 0, 0, 0]), {}, "outside Y_hat"),
    ("SelectBalancedL1Loss", select([0] * 4, rows=2), {}, r"\[2, 4\] and L of shape \[1, 4\]"),
    ("SelectBalancedL1Loss", [BOXES, *select([0] * 4)[1:]], {}, r"Y_hat of shape \[3, 4\]"),
    ("SelectBalancedL1Loss", [*select([0] * 4)[:3], zeros(2)], {}, r"S of shape \[2\]"),
    (
        FOCAL,
        [zeros(1, 6, 2, 2), LABELS, zeros(1), zeros(1, 2, 2, 2)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 2, 2\].*\[1, 6, 2, 2\]",
    ),
    (
        FOCAL,
        [zeros(1, 8, 2, 2), LABELS, zeros(1), zeros(1, 8, 2, 2)],
        {"num_classes": 4},
        r"W of shape \[1, 8, 2, 2\].*\[1, 2, 2, 2\]",
    ),
    (
        FOCAL,
        [zeros(1, 8, 2, 2), LABELS + 5, zeros(1), zeros(1, 2, 2, 2)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 2, 2\] holds 5, .*\[1, 8, 2, 2\] .* at most 4",
    ),
    (
        FOCAL,
        [zeros(1, 8, 2, 2), LABELS - 2, zeros(1), zeros(1, 2, 2, 2)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 2, 2\] holds -2, .* at least -1",
    ),
    (
        FOCAL,
        [zeros(8, 2, 2), LABELS, zeros(1), zeros(1, 2, 2, 2)],
        {"num_classes": 4},
        r"T of shape \[1, 2, 2, 2\].*\[8, 2, 2\]",
    ),
    (
        FOCAL,
        [zeros(1, 8, 2, 2), LABELS, zeros(2), zeros(1, 2, 2, 2)],
        {"num_classes": 4},
        r"fg_num of shape \[2\]",
    ),
    (GATHER, pyramid(LEVEL, (1, 3, 2, 2)), {"refine_level": 0}, r"F_1 .*1, 3, 2, 2.*1, 2, 4, 4"),
    (GATHER, pyramid(LEVEL, (2, 2, 2, 2)), {"refine_level": 0}, r"F_1 .*2, 2, 2, 2.*1, 2, 4, 4"),
    (GATHER, pyramid(LEVEL, (1, 2, 0, 2)), {"refine_level": 0}, r"F_1 of shape \[1, 2, 0, 2\]"),
    (GATHER, pyramid((2, 4, 4), (2, 2, 2)), {"refine_level": 0}, r"F_0 of shape \[2, 4, 4\]"),
    (GATHER, pyramid(LEVEL, LEVEL), {"refine_level": 2}, "refine_level must .* 0 to 1, but is 2"),
    (GATHER, pyramid(LEVEL, LEVEL), {"refine_level": -1}, "refine_level .*-1"),
    (GATHER, pyramid(LEVEL, LEVEL), {}, "refine_level"),
    (
        SCATTER,
        pyramid((1, 2, 3, 4), LEVEL, (1, 2, 2, 2)),
        {"refine_level": 0},
        r"B of shape \[1, 2, 3, 4\].*F_0.*\[1, 2, 4, 4\]",
    ),
    (SCATTER, pyramid(LEVEL, LEVEL, (1, 2, 2)), {"refine_level": 0}, r"F_1 of shape \[1, 2, 2\]"),
    (SCATTER, pyramid(LEVEL, LEVEL, LEVEL), {"refine_level": 2}, "refine_level .* is 2"),
    (ATTENTION, pyramid(LEVEL, (1, 2, 4, 5), LEVEL), {}, r"phi of .*1, 2, 4, 5.*1, 2, 4, 4"),
    (ATTENTION, pyramid(LEVEL, LEVEL, (1, 3, 4, 4)), {}, r"g of .*1, 3, 4, 4.*1, 2, 4, 4"),
    (ATTENTION, pyramid(*[(2, 4, 4)] * 3), {}, r"theta of shape \[2, 4, 4\]"),
    (AFFINE, [zeros(4), zeros(4), zeros(4)], {}, r"X of shape \[4\] has no channels"),
    (AFFINE, [zeros(*LEVEL), zeros(3), zeros(2)], {}, r"scale of shape \[3\].*\[1, 2, 4, 4\]"),
    (AFFINE, [zeros(*LEVEL), zeros(1, 2), zeros(2)], {}, r"scale of shape \[1, 2\].*be \[2\]"),
    (AFFINE, [zeros(*LEVEL), zeros(2), zeros(1)], {}, r"bias of shape \[1\].*\[1, 2, 4, 4\]"),
    (BLOCK, block({0: (2, 4, 4)}), {}, r"X of shape \[2, 4, 4\]"),
    (BLOCK, block({0: (1, 0, 4, 4)}), {}, r"X of shape \[1, 0, 4, 4\] must have channels"),
    (BLOCK, block({1: (3, 2)}), {}, r"theta_w of shape \[3, 2\]"),
    (BLOCK, block({1: (0, 2, 1, 1)}), {}, r"theta_w of shape \[0, 2, 1, 1\] must have filters"),
    (BLOCK, block({1: (3, 4, 1, 1)}), {}, r"theta_w .*3, 4, 1, 1.*1, 2, 4, 4"),
    (BLOCK, block({1: (3, 2, 3, 3)}), {}, r"theta_w .*3, 2, 3, 3.*1, 2, 4, 4"),
    (BLOCK, block({2: (2,)}), {}, r"theta_b of shape \[2\].*3, 2, 1, 1"),
    (BLOCK, block({3: (2, 2, 1, 1)}), {}, r"phi_w .*2, 2, 1, 1.*3, 2, 1, 1"),
    (BLOCK, block({4: (3, 1)}), {}, r"phi_b of shape \[3, 1\]"),
    (BLOCK, block({5: (3, 1, 1, 1)}), {}, r"g_w .*3, 1, 1, 1.*3, 2, 1, 1"),
    (BLOCK, block({6: (4,)}), {}, r"g_b of shape \[4\].*3, 2, 1, 1"),
    (BLOCK, block({7: (3, 2, 1, 1)}), {}, r"out_w .*3, 2, 1, 1.*must be \[2, 3, 1, 1\]"),
    (BLOCK, block({8: (3,)}), {}, r"out_b of shape \[3\].*1, 2, 4, 4"),
]


@pytest.mark.parametrize(("operator", "inputs", "arguments", "message"), BAD_INPUTS)
def test_bad_input_is_refused_with_its_name_and_shapes(operator, inputs, arguments, message):
    outputs = {SCATTER: len(inputs) - 1, BLOCK: 3}.get(operator, 1)
    with pytest.raises(RuntimeError, match=f"(?s){operator}: .*{message}"):
        run_operator(operator, inputs, outputs, **arguments)


@pytest.mark.parametrize(
    ("operator", "inputs", "arguments", "message"),
    [
        ("BalancedL1LossGradient", [zeros(3, 4)] * 4 + [zeros(2)], {}, r"d_loss of shape \[2\]"),
        ("SelectBalancedL1LossGradient", [*select([0, 6, 0, 0]), zeros(1)], {}, "row 0 of L"),
        (
            "BalancedPyramidGatherGradient",
            pyramid(LEVEL, (1, 2, 2, 2), LEVEL),
            {"refine_level": 1},
            r"d_B of shape \[1, 2, 4, 4\].*\[1, 2, 2, 2\]",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 3, 2, 2)),
            {"refine_level": 0, "levels": [1]},
            r"d_G_1 of shape \[1, 3, 2, 2\].*\[1, 2, 4, 4\]",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 2, 2, 2)),
            {"refine_level": 0, "levels": [8]},
            "levels holds 8",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 2, 2, 2), (1, 2, 2, 2)),
            {"refine_level": 0, "levels": [1, 1]},
            "levels holds 1; it must hold different numbers",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 2, 2, 2)),
            {"refine_level": 0, "levels": [0, 1]},
            "levels holds 2 levels; it must hold one for each of the 1 gradients",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 2, 2, 2)),
            {"refine_level": 8, "levels": [1]},
            "refine_level must be 0 to 7, but is 8",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid((1, 2, 4), (1, 2, 2, 2)),
            {"refine_level": 0, "levels": [1]},
            r"B of shape \[1, 2, 4\]",
        ),
        (
            "BalancedPyramidScatterGradient",
            pyramid(LEVEL, (1, 2, 2, 2)),
            {"refine_level": 0, "levels": [0]},
            r"d_G_0 of shape \[1, 2, 2, 2\].*\[1, 2, 4, 4\]",
        ),
        (
            "BalancedPyramidGatherGradient",
            pyramid(LEVEL, (1, 2, 2, 2), LEVEL),
            {"refine_level": 2},
            "refine_level must .* 0 to 1, but is 2",
        ),
        (
            "WeightedSigmoidFocalLossGradient",
            [zeros(1, 8, 2, 2), LABELS, zeros(1), zeros(1, 2, 2, 3), zeros(1)],
            {"num_classes": 4},
            r"W of shape \[1, 2, 2, 3\].*\[1, 2, 2, 2\]",
        ),
        (
            "WeightedSigmoidFocalLossGradient",
            [zeros(1, 8, 2, 2), LABELS, zeros(1), zeros(1, 2, 2, 2), zeros(0)],
            {"num_classes": 4},
            r"d_loss of shape \[0\]",
        ),
        (
            "EmbeddedGaussianAttentionGradient",
            pyramid(LEVEL, LEVEL, LEVEL, (1, 2, 4, 5), LEVEL),
            {},
            r"out of shape \[1, 2, 4, 5\].*\[1, 2, 4, 4\]",
        ),
        (
            "EmbeddedGaussianAttentionGradient",
            pyramid(LEVEL, LEVEL, LEVEL, LEVEL, (2, 4, 4)),
            {},
            r"d_out of shape \[2, 4, 4\].*\[1, 2, 4, 4\]",
        ),
        (
            "EmbeddedGaussianAttentionGradient",
            [*pyramid(*[LEVEL] * 5), zeros(1, 15)],
            {},
            r"log_sums of shape \[1, 15\].*\[1, 2, 4, 4\]",
        ),
        (
            "AffineChannelClipGradient",
            [zeros(*LEVEL), zeros(3), zeros(*LEVEL)],
            {},
            r"scale of shape \[3\].*Y of shape \[1, 2, 4, 4\]",
        ),
        (
            "AffineChannelClipGradient",
            [zeros(*LEVEL), zeros(2), zeros(1, 2, 4, 5)],
            {},
            r"d_Y of shape \[1, 2, 4, 5\].*\[1, 2, 4, 4\]",
        ),
        *(
            ("NonLocalBlockGradient", block({at: shape}, LEVEL, (1, 16), LEVEL), {}, message)
            for at, shape, message in (
                (9, (1, 2, 4, 5), r"averages of shape \[1, 2, 4, 5\].*\[1, 2, 4, 4\]"),
                (10, (1, 15), r"log_sums of shape \[1, 15\].*\[1, 2, 4, 4\]"),
                (11, (2, 4, 4), r"d_Y of shape \[2, 4, 4\].*\[1, 2, 4, 4\]"),
                (0, (1, 2, 4, 5), r"averages of shape \[1, 2, 4, 4\].*\[1, 2, 4, 5\]"),
            )
        ),
    ],
)
def test_bad_gradient_input_is_refused(operator, inputs, arguments, message):
    outputs = {
        "BalancedPyramidGatherGradient": 2,
        "EmbeddedGaussianAttentionGradient": 3,
        "NonLocalBlockGradient": 9,
    }
    with pytest.raises(RuntimeError, match=f"(?s){operator}: .*{message}"):
        run_operator(operator, inputs, outputs.get(operator, 1), **arguments)


@pytest.mark.parametrize(
    ("operator", "count", "arguments"),
    [
        ("BalancedL1Loss", 4, {"alpha": 0.0}),
        ("BalancedL1Loss", 4, {"alpha": float("inf")}),
        ("BalancedL1LossGradient", 5, {"alpha": float("nan")}),
        ("BalancedL1Loss", 4, {"gamma": -1.0}),
        ("BalancedL1Loss", 4, {"beta": float("nan")}),
        ("BalancedL1Loss", 4, {"gamma": 31.0}),
        ("BalancedL1Loss", 4, {"scale": -1.0}),
        ("SelectBalancedL1Loss", 4, {"beta": 0.0}),
        ("SelectBalancedL1Loss", 4, {"formula": "paper"}),
        ("SelectBalancedL1LossGradient", 5, {"gamma": float("nan")}),
        ("WeightedSigmoidFocalLoss", 4, {"alpha": float("nan")}),
        ("WeightedSigmoidFocalLoss", 4, {"alpha": 1.01}),
        ("WeightedSigmoidFocalLossGradient", 5, {"gamma": float("nan")}),
        ("WeightedSigmoidFocalLoss", 4, {"gamma": -0.5}),
        ("WeightedSigmoidFocalLoss", 4, {"num_classes": 0}),
        ("WeightedSigmoidFocalLoss", 4, {"scale": -2.0}),
    ],
)
def test_bad_argument_is_refused_with_its_name(operator, count, arguments):
    with pytest.raises(RuntimeError, match=f"{operator}: {next(iter(arguments))} is"):
        run_operator(operator, [zeros(1)] * count, **arguments)


def test_arguments_that_single_precision_cannot_hold_are_refused():
    with pytest.raises(RuntimeError, match="alpha is .*, gamma .* and beta .* too far apart"):
        run_operator("BalancedL1Loss", [zeros(1)] * 4, beta=1e-38, gamma=5.0)


def test_a_pyramid_has_two_to_eight_levels():
    for count in (1, 9):
        with pytest.raises(RuntimeError, match=GATHER):
            run_operator(GATHER, pyramid(*[LEVEL] * count), refine_level=0)
