"""Settings reach their operators: each key with a value that is not its default, on two GPUs."""

from __future__ import annotations

from functools import lru_cache

import pytest
from caffe2.python import utils
from two_gpus import build_for_two_gpus

from detectron_ext import ops
from detectron_ext.modeling.devices import unscoped

pytestmark = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="Python operators hide their names and arguments"
)

# On two GPUs losses are halved, because the gradients of both are added up.
WEIGHTS = ("LIBRA.LOSS_WEIGHTS.CLS", "3.0", "LIBRA.LOSS_WEIGHTS.BBOX", "0.25")
BALANCED = (
    "LIBRA.BALANCED_L1.ON", "True", "LIBRA.BALANCED_L1.FORMULA", "mmdet",
    "LIBRA.BALANCED_L1.ALPHA", "0.3", "LIBRA.BALANCED_L1.GAMMA", "2.5",
)  # fmt: skip
BALANCED_ARGUMENTS = {"alpha": 0.3, "gamma": 2.5, "formula": b"mmdet"}
RETINANET = (
    *WEIGHTS, "RETINANET.BBOX_REG_BETA", "0.2", "RETINANET.BBOX_REG_WEIGHT", "6.0",
    "RETINANET.LOSS_GAMMA", "1.5", "RETINANET.LOSS_ALPHA", "0.7",
)  # fmt: skip
REWEIGHT = ("LIBRA.RETINANET_SAMPLER.MODE", "reweight")
BY_IOU = (
    "LIBRA.RETINANET_WEIGHTS.POSITIVE", "iou_balanced", "LIBRA.RETINANET_WEIGHTS.BOX",
    "iou_balanced", "LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True", "BBOX_XFORM_CLIP", "2.5",
    "RETINANET.CLASS_SPECIFIC_BBOX", "True",
)  # fmt: skip
BALANCED_NEGATIVES = (
    "LIBRA.RETINANET_NEGATIVES.WEIGHTS", "gradient_balanced", "LIBRA.RETINANET_SAMPLER.NUM_BINS",
    "4", "LIBRA.RETINANET_NEGATIVES.SHUFFLED",
)  # fmt: skip
SOFTMAX = ("RETINANET.SOFTMAX", "True")
FOCAL_ARGUMENTS = {"gamma": 1.5, "alpha": 0.7, "scale": 1.5, "num_classes": 3}
FAST = (*WEIGHTS, "MODEL.FASTER_RCNN", "False")
RPN = (
    *WEIGHTS, "MODEL.FASTER_RCNN", "False", "MODEL.RPN_ONLY", "True",
    "TRAIN.RPN_BATCH_SIZE_PER_IM", "64", "TRAIN.IMS_PER_BATCH", "2",
)  # fmt: skip
COARSE = ("LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_LEVEL", "6")
FINE = ("LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_LEVEL", "3")


@lru_cache(maxsize=None)
def _operators(detector, overrides):
    """Return type and arguments of every operator of the training net; all are native."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ops.library._State, "native_cuda", True)
        net = build_for_two_gpus(detector, True, *overrides).net.Proto()
    return [(op.type, utils.ArgsToDict(op.arg)) for op in net.op]


@pytest.mark.parametrize(
    "detector, overrides, operator, number, expected",
    [
        ("retinanet", RETINANET, "SelectSmoothL1Loss", 10, {"beta": 0.2, "scale": 0.75}),
        ("retinanet", RETINANET, "SigmoidFocalLoss", 10, FOCAL_ARGUMENTS),
        (
            "retinanet", RETINANET + BALANCED, "SelectBalancedL1Loss", 10,
            {**BALANCED_ARGUMENTS, "beta": 0.2, "scale": 0.75},
        ),
        ("retinanet", RETINANET + REWEIGHT, "WeightedSigmoidFocalLoss", 10, FOCAL_ARGUMENTS),
        ("retinanet", RETINANET + BY_IOU, "WeightedSigmoidFocalLoss", 10, FOCAL_ARGUMENTS),
        (
            "retinanet", RETINANET + BY_IOU, "WeightedSelectSmoothL1Loss", 10,
            {"beta": 0.2, "scale": 0.75},
        ),
        (
            "retinanet", RETINANET + BY_IOU + BALANCED, "WeightedSelectBalancedL1Loss", 10,
            {**BALANCED_ARGUMENTS, "beta": 0.2, "scale": 0.75},
        ),
        (
            "retinanet", RETINANET + SOFTMAX, "SoftmaxFocalLoss", 10,
            {**FOCAL_ARGUMENTS, "num_classes": 4},
        ),
        ("faster_rcnn", FAST, "SoftmaxWithLoss", 2, {"scale": 1.5}),
        ("faster_rcnn", FAST, "SmoothL1Loss", 2, {"beta": 1.0, "scale": 0.125}),
        (
            "faster_rcnn", FAST + BALANCED, "BalancedL1Loss", 2,
            {**BALANCED_ARGUMENTS, "beta": 1.0, "scale": 0.125},
        ),
        # LIBRA.LOSS_WEIGHTS does not apply to the RPN.
        ("faster_rcnn", RPN, "SmoothL1Loss", 8, {"beta": 1 / 9, "scale": 0.5}),
        ("faster_rcnn", RPN, "SigmoidCrossEntropyLoss", 8, {"scale": 0.5 / 128}),
        ("retinanet", COARSE, "BalancedPyramidGather", 2, {"refine_level": 3}),
        ("retinanet", COARSE, "BalancedPyramidScatter", 2, {"refine_level": 3}),
        ("faster_rcnn", FINE, "BalancedPyramidGather", 2, {"refine_level": 0}),
        ("faster_rcnn", FINE, "BalancedPyramidScatter", 2, {"refine_level": 0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("direction", ["", "Gradient"], ids=["forward", "backward"])
def test_settings_become_arguments_of_operators(
    detector, overrides, operator, number, expected, direction
):
    operators = _operators(detector, overrides)
    found = [arguments for kind, arguments in operators if kind == operator + direction]
    assert len(found) == number  # on every level of each GPU
    for arguments in found:
        assert {key: arguments[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", {}),
        ("True", {}),
        ("direct", {"algorithm": b"direct"}),
        ("winograd", {"algorithm": b"winograd"}),
        ("False", {"fast_conv": 0}),
    ],
)
def test_fast_conv_applies_to_every_convolution(detector, value, expected):
    convolutions = [
        arguments
        for kind, arguments in _operators(detector, ("LIBRA.FAST_CONV", value))
        if kind in ("Conv", "ConvGradient")
    ]
    assert len(convolutions) > 200
    for arguments in convolutions:
        assert {k: v for k, v in arguments.items() if k in ("fast_conv", "algorithm")} == expected


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("pyramid", [True, False])
def test_group_norm_of_the_head_and_of_the_pyramid_are_set_separately(head, pyramid):
    options = ["LIBRA.RETINANET_HEAD.USE_GN", str(head), "FPN.USE_GN", str(pyramid)]
    net = build_for_two_gpus("retinanet", False, *options).net.Proto()
    normed = [unscoped(op.output[0]) for op in net.op if op.type == "GroupNorm"]
    # 5 levels with 2 layers of each tower; 1 lateral layer for each of 3 stages.
    assert sum(name.startswith("retnet_") for name in normed) == (20 if head else 0)
    assert sum(name.startswith("fpn_inner_") for name in normed) == (3 if pyramid else 0)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("SelectBoxIou", {"max_log_scale": 2.5}),
        (
            "SelectSigmoidFocalLoss",
            {"gamma": 1.5, "alpha": 0.7, "num_classes": 3, "channels": 12},
        ),
        ("ScaleAnchors", {"channels": 12}),
    ],
)
def test_weights_by_predictions_are_made_on_every_level_of_each_gpu(operator, expected):
    operators = _operators("retinanet", RETINANET + BY_IOU)
    found = [arguments for kind, arguments in operators if kind == operator]
    assert len(found) == 10
    for arguments in found:
        assert arguments == pytest.approx(expected)


def test_each_gpu_has_a_rule_of_its_own():
    """It joins the positives of the levels of its GPU, and of no other."""
    net = build_for_two_gpus("retinanet", True, *BY_IOU).net.Proto()
    rules = [op for op in net.op if op.name == "PositiveWeights"]
    assert [len(op.input) for op in rules] == [21, 21]
    for gpu, op in enumerate(rules):
        names = [*op.input, *op.output]
        assert {name.split("/")[0] for name in names} == {f"gpu_{gpu}"}
        assert op.device_option.device_id == gpu


@pytest.mark.parametrize(("shuffled", "bins"), [("none", 4), ("bins", 4), ("negatives", 16)])
def test_gradients_of_negatives_are_added_up_on_every_level_of_each_gpu(shuffled, bins):
    operators = _operators("retinanet", (*RETINANET, *BALANCED_NEGATIVES, shuffled))
    found = [arguments for kind, arguments in operators if kind == "NegativeGradientMass"]
    expected = {"gamma": 1.5, "alpha": 0.7, "num_classes": 3, "num_bins": bins}
    assert found == [pytest.approx(expected)] * 10
    kinds = [kind for kind, _ in operators]
    assert kinds.count("WeightedSigmoidFocalLoss") == 10 and "SigmoidFocalLoss" not in kinds


@pytest.mark.parametrize(("shuffled", "inputs"), [("none", 7), ("bins", 8), ("negatives", 7)])
def test_each_gpu_balances_its_own_negatives(shuffled, inputs):
    model = build_for_two_gpus("retinanet", True, *BALANCED_NEGATIVES, shuffled)
    rules = [op for op in model.net.Proto().op if op.name == "NegativeWeights"]
    assert [len(op.input) for op in rules] == [inputs, inputs]
    for gpu, op in enumerate(rules):
        assert {name.split("/")[0] for name in [*op.input, *op.output]} == {f"gpu_{gpu}"}
        assert op.device_option.device_id == gpu
        assert f"gpu_{gpu}/retnet_negative_masses" in op.input
    assert model.states == {"retnet_negative_masses": "retnet_negative_masses_next"}
    operators = model.net.Proto().op
    updates = [op for op in operators[-model.num_update_operators :] if op.type == "Copy"]
    names = [(op.input[0], op.output[0]) for op in updates]
    masses = [f"gpu_{gpu}/retnet_negative_masses" for gpu in range(2)]
    assert names == [(name + "_next", name) for name in masses]
