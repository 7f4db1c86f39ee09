"""Values that are of the right type and still make no sense."""

from __future__ import annotations

import pytest

from detectron_ext import config
from detectron_ext.config.keys import KEYS
from detectron_ext.errors import ConfigError


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        config.load(overrides=list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "key, value",
    [
        ("LIBRA.BFP.REFINE_TYPE", "attention"),
        ("LIBRA.BALANCED_L1.FORMULA", "paper"),
        ("LIBRA.SAMPLER.NEGATIVE", "hard"),
        ("LIBRA.SAMPLER.POSITIVE", "hard"),
        ("LIBRA.SAMPLER.BIN_RANGE", "all"),
        ("LIBRA.RETINANET_SAMPLER.MODE", "drop"),
        ("SOLVER.LR_POLICY", "poly"),
        ("SOLVER.WARM_UP_METHOD", "exp"),
    ],
)
def test_wrong_choice_is_refused_with_the_allowed_values(key, value):
    choices = ", ".join(KEYS[key].choices)
    assert refusal(key, value).startswith(f"{key} must be one of {choices}, given '{value}' (str)")
    for choice in KEYS[key].choices:
        extra = ["SOLVER.STEPS", "[0]", "SOLVER.LRS", "[0.1]"]
        config.load(overrides=[key, choice, *extra])


def test_wrong_choice_gets_a_suggestion():
    assert refusal("LIBRA.BFP.REFINE_TYPE", "nonlocal").endswith("; did you mean non_local?")


def test_freeze_at_accepts_only_numbers_of_stages():
    for stage in (0, 2, 3, 4, 5):
        assert config.load(overrides=["TRAIN.FREEZE_AT", stage])["TRAIN"]["FREEZE_AT"] == stage
    for stage in (-1, 1, 6):
        assert "must be one of 0, 2, 3, 4, 5" in refusal("TRAIN.FREEZE_AT", stage)


# One key for each kind of rule: values at the limits, values beyond them, what the message demands.
RANGES = [
    ("SOLVER.GAMMA", ["1e-9"], ["0", "-1"], "must be above 0"),
    ("TRAIN.IMS_PER_BATCH", [1], [0, -1], "must be at least 1"),
    ("LIBRA.SAMPLER.RPN_NEG_POS_UB", ["1e6", "-1"], ["1.01e6", "1e308"], "must be at most 1e+06"),
    ("TEST.NMS", ["0", "1"], ["-0.1", "1.1"], "must lie between 0 and 1"),
    ("SOLVER.MOMENTUM", ["0", "0.999"], ["-0.1", "1"], "must be at least 0 and below 1"),
    ("RETINANET.PRIOR_PROB", ["0.1"], ["0", "1"], "must lie between 0 and 1, both excluded"),
]


@pytest.mark.parametrize("key, allowed, refused, demand", RANGES)
def test_values_outside_a_range_are_refused(key, allowed, refused, demand):
    for value in allowed:
        config.load(overrides=[key, value])
    for value in refused:
        assert refusal(key, value).startswith(f"{key} {demand}, given ")


# What operators take in single precision; counts that have to be numbers to count to.
LIMITS = {
    "GROUP_NORM.EPSILON": (1e-30, 1e6),
    "LIBRA.BALANCED_L1.ALPHA": (1e-3, 1e3),
    "LIBRA.BALANCED_L1.GAMMA": (1e-3, 1e3),
    "LIBRA.LOSS_WEIGHTS.BBOX": (0, 1e6),
    "LIBRA.LOSS_WEIGHTS.CLS": (0, 1e6),
    "LIBRA.RETINANET_SAMPLER.NEG_PER_POS": (0, 1e6),
    "RETINANET.BBOX_REG_BETA": (1e-6, 1e6),
    "RETINANET.BBOX_REG_WEIGHT": (0, 1e6),
    "RETINANET.LOSS_GAMMA": (0, 1e6),
}


@pytest.mark.parametrize("key, limits", LIMITS.items())
def test_limits_keep_numbers_computable_in_single_precision(key, limits):
    low, high = limits
    demand = f"{key} must lie between {low:g} and {high:g}, given "
    for value in (1e39, high * 1.01, low * 0.99 if low else -1.0):
        assert refusal(key, value).startswith(demand)


def test_gamma_and_alpha_keep_the_exponential_of_balanced_l1_finite():
    alpha, gamma = "LIBRA.BALANCED_L1.ALPHA", "LIBRA.BALANCED_L1.GAMMA"
    assert refusal(alpha, "0.02") == (
        "LIBRA.BALANCED_L1.GAMMA must be at most 60 times LIBRA.BALANCED_L1.ALPHA (0.02), "
        "given 1.5 (float)"
    )
    refusal(alpha, "0.7", gamma, "42")  # as float32, 0.7 is less
    config.load(overrides=[alpha, "0.75", gamma, "45"])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["TRAIN.SCALES", "()"], "TRAIN.SCALES must hold at least 1 number above 0"),
        (["TRAIN.SCALES", "('a',)"], "TRAIN.SCALES must hold numbers above 0 only"),
        (["TRAIN.SCALES", "(True,)"], "TRAIN.SCALES must hold numbers above 0 only"),
        (["TRAIN.DATASETS", "(3,)"], "TRAIN.DATASETS must hold strings only"),
        (
            ["MODEL.BBOX_REG_WEIGHTS", "(1, 1)"],
            "MODEL.BBOX_REG_WEIGHTS must hold 4 numbers above 0",
        ),
        (["LIBRA.AUGMENTATION.SCALE_RANGE", "(2, 1)"], "LIBRA.AUGMENTATION.SCALE_RANGE must be ("),
        (["EXPECTED_RESULTS", "[3]"], "EXPECTED_RESULTS must hold [data set, task, metric, value]"),
        (
            [
                "TEST.BBOX_VOTE.ENABLED",
                "True",
                "TEST.BBOX_VOTE.SCORING_METHOD",
                "TEMP_AVG",
                "TEST.BBOX_VOTE.SCORING_METHOD_BETA",
                "0",
            ],
            "TEST.BBOX_VOTE.SCORING_METHOD_BETA must not be 0 with SCORING_METHOD TEMP_AVG",
        ),
        (["FPN.RPN_MIN_LEVEL", "7"], "FPN.RPN_MIN_LEVEL (7) must not be above FPN.RPN_MAX_LEVEL"),
        (
            ["RETINANET.NEGATIVE_OVERLAP", "0.6"],
            "RETINANET.NEGATIVE_OVERLAP (0.6) must not be above RETINANET.POSITIVE_OVERLAP (0.5)",
        ),
    ],
)
def test_other_wrong_values_are_refused(overrides, message):
    assert refusal(*overrides).startswith(message)


_RPN = ["MODEL.TYPE", "generalized_rcnn", "MODEL.FASTER_RCNN", "True"]
_FPN = [*_RPN, "FPN.FPN_ON", "True", "FPN.MULTILEVEL_RPN", "True"]


@pytest.mark.parametrize(
    ("model", "key", "ratios", "refused", "stride"),
    [
        (["MODEL.TYPE", "retinanet", "FPN.RPN_MIN_LEVEL", 3], "RETINANET.ASPECT_RATIOS",
         "(0.005, 250.0)", ("0.003", "300.0"), "stride 8"),
        (_FPN, "FPN.RPN_ASPECT_RATIOS", "(0.02, 60.0)", ("0.01", "65.0"), "stride 4"),
        (_RPN, "RPN.ASPECT_RATIOS", "(0.001, 1000.0)", ("0.0005", "1100.0"), "stride 16"),
    ],
)  # fmt: skip
def test_a_ratio_at_which_anchors_have_no_pixels_is_named(model, key, ratios, refused, stride):
    config.load(overrides=[*model, key, ratios])
    for ratio in refused:
        message = refusal(*model, key, f"(1.0, {ratio})")
        assert message.startswith(f"{key} has {float(ratio)} (float), at which an anchor of the ")
        assert stride in message
        # Nothing is rounded by mmdetection's rule, and other models do not use the key.
        config.load(overrides=[*model, key, f"({ratio},)", "LIBRA.BOX_CONVENTION", "mmdet"])
        config.load(overrides=["MODEL.TYPE", "generalized_rcnn", key, f"({ratio},)"])


@pytest.mark.parametrize("policy", ["steps_with_decay", "steps_with_lrs"])
@pytest.mark.parametrize("steps", ["[]", "[10, 20]"])
def test_steps_must_start_with_zero(policy, steps):
    message = refusal("SOLVER.LR_POLICY", policy, "SOLVER.STEPS", steps)
    assert message.startswith(f"SOLVER.STEPS must start with 0 under LR_POLICY {policy}, given ")


def test_steps_must_be_rising_numbers():
    decay = ["SOLVER.LR_POLICY", "steps_with_decay", "SOLVER.STEPS"]
    assert refusal(*decay, "[0, 20, 20]").startswith("SOLVER.STEPS must rise")
    assert refusal(*decay, "[0, 'a']").startswith("SOLVER.STEPS must hold numbers only")


def test_other_policies_do_not_check_steps():
    config.load(overrides=["SOLVER.LR_POLICY", "cosine_decay", "SOLVER.STEPS", "[5]"])


def test_each_step_needs_one_learning_rate():
    lrs = ["SOLVER.LR_POLICY", "steps_with_lrs", "SOLVER.STEPS", "[0, 10]", "SOLVER.LRS"]
    assert config.load(overrides=[*lrs, "[0.1, 0.01]"]).SOLVER.LRS == [0.1, 0.01]
    assert refusal(*lrs, "[0.1]").endswith("under LR_POLICY steps_with_lrs, given 1 for 2")


@pytest.mark.parametrize("channels, groups", [(8, 32), (-1, -1), (0, -1), (-1, 0), (-1, -2)])
def test_group_norm_needs_exactly_one_of_both_keys(channels, groups):
    keys = ["GROUP_NORM.DIM_PER_GP", channels, "GROUP_NORM.NUM_GROUPS", groups]
    assert refusal(*keys).endswith(f"given {channels} and {groups}")
    config.load(overrides=["GROUP_NORM.DIM_PER_GP", "8", "GROUP_NORM.NUM_GROUPS", "-1"])


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "a\0"])
def test_a_model_type_cannot_lead_out_of_the_output_folder(name):
    with pytest.raises(ConfigError, match="MODEL.TYPE must be a name without '/'"):
        config.load(None, ["MODEL.TYPE", name])


@pytest.mark.parametrize(
    "key, value",
    [
        ("LIBRA.THREADS", 100_000),
        ("DATA_LOADER.NUM_THREADS", 100_000),
        ("DATA_LOADER.MINIBATCH_QUEUE_SIZE", 100_000),
        ("FPN.DIM", 10_000_000),
        ("TRAIN.MAX_SIZE", 1_000_000),
        ("TEST.MAX_SIZE", 1_000_000),
        ("RETINANET.NUM_CONVS", 20_000),
        ("TRAIN.IMS_PER_BATCH", 100_000),
        ("TRAIN.BATCH_SIZE_PER_IM", 1_000_000),
        ("MODEL.NUM_CLASSES", 1_000_000),
        ("TRAIN.SCALES", (600, 1_000_000)),
        ("TEST.SCALE", 1_000_000),
        ("RETINANET.SCALES_PER_OCTAVE", 100),
        ("LIBRA.RETINANET_SAMPLER.ATSS_POSITIONS", 1_000_000),
        ("LIBRA.RETINANET_SAMPLER.NUM_BINS", 10_000),
        ("LIBRA.SAMPLER.NUM_BINS", 10_000),
        ("FAST_RCNN.MLP_HEAD_DIM", 1_000_000),
        ("FAST_RCNN.CONV_HEAD_DIM", 1_000_000),
        ("FAST_RCNN.NUM_STACKED_CONVS", 1000),
        ("FAST_RCNN.ROI_XFORM_RESOLUTION", 1000),
        ("RESNETS.NUM_GROUPS", 10_000),
        ("RESNETS.WIDTH_PER_GROUP", 10_000),
        ("RESNETS.RES5_DILATION", 100),
        ("FPN.COARSEST_STRIDE", 3_200_000),
        ("FPN.RPN_MAX_LEVEL", 100),
    ],
)
def test_settings_that_no_machine_can_run_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} must be at most "):
        config.load(None, [key, value])
