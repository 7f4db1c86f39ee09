from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = str(REPOSITORY / "configs" / "retinanet_R-36-tiny.yaml")


def _tiny(*overrides):
    return configuration.load(TINY, ["MODEL.NUM_CLASSES", "4", *overrides])


def _shapes(model):
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    return {str(p): list(workspace.FetchBlob(str(p)).shape) for p in model.params}


def _op_types(model):
    return [op.type for op in model.net.Proto().op]


def test_parameters_are_those_of_detectron(shared_path):
    facts = json.loads(shared_path("legacy/retinanet_R-50-FPN_1x.params.json").read_text())
    path = shared_path("legacy/configs/12_2017_baselines/retinanet_R-50-FPN_1x.yaml")
    model = build_model(configuration.load(str(path)), train=True)
    assert _shapes(model) == facts["params"]
    assert sorted(map(str, model.trainable_params())) == sorted(facts["trainable"])


def _need_native_operators():
    if not ops.native_library_loaded():
        pytest.skip("Python operators hide their names and arguments; needs the native library")


def test_operators_are_those_of_detectron(shared_path):
    _need_native_operators()
    facts = json.loads(shared_path("legacy/retinanet_R-50-FPN_1x.params.json").read_text())
    path = shared_path("legacy/configs/12_2017_baselines/retinanet_R-50-FPN_1x.yaml")
    types = _op_types(build_model(configuration.load(str(path)), train=True))
    for operator, count in facts["train_net_ops"].items():
        if operator not in ("Add", "Copy"):  # those average gradients over Detectron's 8 GPUs
            assert types.count(operator) == count, operator


def test_every_legacy_retinanet_builds(shared_path):
    paths = sorted(shared_path("legacy/configs").glob("*/retinanet_*.yaml"))
    assert len(paths) >= 8
    for path in paths:
        config = configuration.load(str(path))
        assert len(build_model(config, train=False).params) > 100


@pytest.mark.parametrize("network", ["ResNet18", "ResNet34", "ResNet36_tiny"])
@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_small_bodies_build(network, norm):
    trans = "bottleneck_transformation" if norm == "bn" else "bottleneck_gn_transformation"
    config = _tiny(
        "MODEL.CONV_BODY", f"FPN.add_fpn_{network}_conv5_body",
        "RESNETS.STEM_FUNC", f"basic_{norm}_stem",
        "RESNETS.SHORTCUT_FUNC", f"basic_{norm}_shortcut",
        "RESNETS.TRANS_FUNC", trans,
        "FPN.DIM", "64",
    )  # fmt: skip
    model = build_model(config, train=True)
    names = set(map(str, model.params))
    tiny = network == "ResNet36_tiny"
    assert ("conv1_gn_s" in names) == (norm == "gn" or tiny)
    convolutions = [n for n in names if n.startswith("res") and "branch2" in n and n[-2:] == "_w"]
    assert len(convolutions) == {"ResNet18": 16, "ResNet34": 32, "ResNet36_tiny": 36}[network]


@pytest.mark.parametrize("refine", ["none", "conv", "non_local"])
def test_balanced_pyramid_feeds_the_heads(refine):
    config = _tiny("LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_TYPE", refine)
    model = build_model(config, train=True)
    first = next(op for op in model.net.Proto().op if "retnet_cls_conv_n0_fpn3_w" in list(op.input))
    assert first.input[0] == "bfp_fpn3"
    refining = {str(p) for p in model.params if str(p).startswith("bfp_")}
    assert len(refining) == {"none": 0, "conv": 2, "non_local": 8}[refine]
    assert refining <= set(map(str, model.trainable_params()))


def _run_refinement(refine, *overrides):
    """Return the averaged level of an untrained net for noise, before and after refinement."""
    config = _tiny("LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_TYPE", refine, *overrides)
    model = build_model(config, train=False)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    noise = np.random.default_rng(0).normal(0, 50, (1, 3, 128, 128))
    workspace.FeedBlob("data", noise.astype(np.float32))
    workspace.RunNetOnce(model.net)
    refined = {"conv": "bfp_refine", "non_local": "bfp_refined"}[refine]
    return workspace.FetchBlob("bfp_gathered"), workspace.FetchBlob(refined)


def test_refinement_by_a_convolution_ends_in_a_relu():
    _, refined = _run_refinement("conv")
    assert refined.min() == 0 and 0.1 < (refined > 0).mean() < 0.9


def test_a_non_local_block_starts_as_the_identity():
    gathered, refined = _run_refinement("non_local")
    assert gathered.std() > 0
    np.testing.assert_array_equal(refined, gathered)
    assert not workspace.FetchBlob("bfp_out_w").any()
    assert all(workspace.FetchBlob(f"bfp_{name}_w").any() for name in ("theta", "phi", "g"))


def test_a_non_local_block_with_xavier_weights_adds_to_its_input():
    """As the authors' code draws them: uniform up to the root of 6 / (inputs + outputs)."""
    gathered, refined = _run_refinement("non_local", "LIBRA.BFP.INIT", "xavier")
    weights = [workspace.FetchBlob(f"bfp_{name}_w") for name in ("theta", "phi", "g", "out")]
    for weight in weights:
        dim = weight.shape[0]
        assert weight.shape[:2] == (dim, dim)
        assert abs(weight).max() <= np.sqrt(6 / (dim + dim)) + 1e-6
        assert weight.std() == pytest.approx(np.sqrt(1 / dim), rel=0.1)
    assert not any(workspace.FetchBlob(f"bfp_{name}_b").any() for name in ("theta", "out"))
    assert 0.1 < abs(refined - gathered).mean() / abs(gathered).mean() < 10


def _initial_weights(*overrides):
    model = build_model(_tiny(*overrides), train=True)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    return {str(name): workspace.FetchBlob(str(name)) for name in model.params}


def test_a_part_leaves_the_first_weights_of_the_others_alone():
    """Without that, a variant and its baseline would differ by chance, too."""
    plain = _initial_weights()
    balanced = _initial_weights("LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_TYPE", "conv")
    assert len(balanced) == len(plain) + 2
    for name, values in plain.items():
        np.testing.assert_array_equal(balanced[name], values, err_msg=name)
    towers = [plain[f"retnet_{kind}_conv_n0_fpn3_w"] for kind in ("cls", "bbox")]
    assert not np.array_equal(*towers)  # same shapes, other names
    other = _initial_weights("RNG_SEED", "4")
    assert not np.array_equal(other["retnet_cls_conv_n0_fpn3_w"], towers[0])


def test_loss_weights_and_balanced_l1_reach_the_operators():
    _need_native_operators()
    config = _tiny(
        "LIBRA.BALANCED_L1.ON", "True", "LIBRA.LOSS_WEIGHTS.BBOX", "0.5",
        "LIBRA.LOSS_WEIGHTS.CLS", "2.0", "LIBRA.BALANCED_L1.FORMULA", "mmdet",
    )  # fmt: skip
    by_type = {op.type: op for op in build_model(config, train=True).net.Proto().op}
    assert "SelectSmoothL1Loss" not in by_type
    box = {a.name: a for a in by_type["SelectBalancedL1Loss"].arg}
    assert box["scale"].f == pytest.approx(0.5)
    assert box["beta"].f == pytest.approx(0.11)
    assert box["formula"].s == b"mmdet"
    focal = {a.name: a for a in by_type["SigmoidFocalLoss"].arg}
    assert focal["scale"].f == pytest.approx(2.0)


@pytest.mark.parametrize(
    "overrides, fault",
    [
        (["MODEL.TYPE", "retinanets"], "MODEL.TYPE"),
        (["MODEL.CONV_BODY", "FPN.add_fpn_ResNet51_conv5_body"], "ResNet51"),
        (["MODEL.CONV_BODY", "ResNet.add_ResNet50_conv5_body"], "need 3, 4, 6, 7"),
        (["FPN.EXTRA_CONV_LEVELS", "False"], "need 6, 7"),
        (["FPN.RPN_MIN_LEVEL", "6"], r"set FPN.RPN_MIN_LEVEL \(6\) to at most 5"),
        (["RESNETS.RES5_DILATION", "2"], "RESNETS.RES5_DILATION 2 .* set it to 1"),
        (["FPN.DIM", "100"], "NUM_GROUPS"),
        (
            ["LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_LEVEL", "2"],
            "REFINE_LEVEL 2 is not a pyramid level: one of 3, 4, 5, 6, 7",
        ),
        (["RESNETS.STEM_FUNC", "stem"], "STEM_FUNC"),
        (["MODEL.NUM_CLASSES", "-1"], "MODEL.NUM_CLASSES is -1; set it to"),
        (["MODEL.NUM_CLASSES", "-1", "RETINANET.SOFTMAX", "True"], "CLASSES is -1; set it to"),
        (["MODEL.NUM_CLASSES", "1"], "MODEL.NUM_CLASSES is 1; set it to"),
        (["FPN.FPN_ON", "False"], "FPN_ON True"),
        (["MODEL.RPN_ONLY", "True"], "RPN_ONLY .* RetinaNet has none: set it to False"),
        (["FPN.COARSEST_STRIDE", "16"], "COARSEST_STRIDE 16.*multiple of 32"),
        (["MODEL.TYPE", "generalized_rcnn", "RPN.RPN_ON", "True"], "RPN.RPN_ON True needs"),
        (
            ["MODEL.TYPE", "generalized_rcnn", "MODEL.RPN_ONLY", "True"]
            + ["MODEL.FASTER_RCNN", "True"],
            "RPN_ONLY True .* set one of them to False",
        ),
    ],
)
def test_unsupported_settings_are_named_in_one_line(overrides, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        build_model(_tiny(*overrides), train=True)
    assert "\n" not in str(caught.value)


def test_seed_decides_the_initial_weights():
    def weights(seed):
        _shapes(build_model(_tiny("RNG_SEED", str(seed)), train=True))
        return workspace.FetchBlob("res3_1_branch2a_w")

    first = weights(3)
    assert (first == weights(3)).all()
    assert (first != weights(4)).any()


def test_layers_of_the_same_shape_start_differently():
    _shapes(build_model(_tiny(), train=True))
    a, b = map(workspace.FetchBlob, ["retnet_cls_conv_n0_fpn3_w", "retnet_bbox_conv_n0_fpn3_w"])
    assert (a != b).any()


def test_shared_tower_softmax_and_class_specific_boxes_build():
    config = _tiny(
        "RETINANET.SHARE_CLS_BBOX_TOWER", "True",
        "RETINANET.SOFTMAX", "True",
        "RETINANET.CLASS_SPECIFIC_BBOX", "True",
    )  # fmt: skip
    shapes = _shapes(build_model(config, train=False))
    assert shapes["retnet_cls_pred_fpn3_w"][0] == 9 * 4
    assert shapes["retnet_bbox_pred_fpn3_w"][0] == 9 * 4 * 3
    assert not any(name.startswith("retnet_bbox_conv") for name in shapes)


def test_reweight_uses_only_the_weighted_loss():
    _need_native_operators()
    reweight = ["LIBRA.RETINANET_SAMPLER.MODE", "reweight"]
    types = _op_types(build_model(_tiny(*reweight), train=True))
    assert types.count("WeightedSigmoidFocalLoss") == 5 and "SigmoidFocalLoss" not in types
    with pytest.raises(ConfigError, match="reweight needs RETINANET.SOFTMAX False") as caught:
        build_model(_tiny(*reweight, "RETINANET.SOFTMAX", "True"), train=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source, dim", [("input", 512), ("output", 256)])
@pytest.mark.parametrize("relu", [True, False])
def test_extra_levels_start_from_the_configured_map(source, dim, relu):
    settings = ["LIBRA.FPN.EXTRA_LEVELS_ON", source, "LIBRA.FPN.EXTRA_LEVELS_RELU", str(relu)]
    model = build_model(_tiny(*settings, "FPN.DIM", "256"), train=False)
    assert _shapes(model)["fpn_6_w"][1] == dim
    inputs = {op.output[0]: op.input[0] for op in model.net.Proto().op}
    assert inputs["fpn_7"] == ("fpn_6_relu" if relu else "fpn_6")
    assert inputs["fpn_6"] == ("res5_1_sum" if source == "input" else "fpn_res5_1_sum_gn")
