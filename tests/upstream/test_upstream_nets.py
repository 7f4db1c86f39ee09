"""Upstream's nets with the adapter: unchanged without LIBRA, with our parts if it asks for them."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from caffe2.python import workspace
from small_models import LIBRA, write_config

from detectron_ext import config as configuration
from detectron_ext.modeling import build_model

_UNCHANGED = [
    "retinanet_R-50-FPN_1x", "e2e_faster_rcnn_R-50-FPN_1x", "e2e_faster_rcnn_R-50-C4_1x",
    "e2e_mask_rcnn_R-50-FPN_1x",
]  # fmt: skip


def test_nets_without_libra_are_identical_byte_for_byte(
    checkout, environment, shared_path, tmp_path
):
    folder = shared_path("legacy/configs/12_2017_baselines")
    configs = [str(folder / f"{name}.yaml") for name in _UNCHANGED]
    script = str(Path(__file__).with_name("net_bytes.py"))
    built = {}
    for mode in ("plain", "installed", "cpu"):
        output = tmp_path / mode
        output.mkdir()
        arguments = [script, str(checkout), str(output), mode, *configs]
        subprocess.run([sys.executable, *arguments], env=environment, check=True)
        built[mode] = {path.name: path.read_bytes() for path in output.iterdir()}
    assert len(built["plain"]) == 2 * len(configs) and all(built["plain"].values())
    assert built["installed"] == built["plain"]
    assert built["cpu"] == built["plain"]


def _create(path, train, *overrides):
    """Return upstream's model of a configuration."""
    from detectron.core import config as upstream_config
    from detectron.modeling import model_builder

    upstream_config.cfg.immutable(False)
    upstream_config.merge_cfg_from_file(str(path))
    upstream_config.merge_cfg_from_list(list(overrides))
    upstream_config.assert_and_infer_cfg(cache_urls=False)
    return model_builder.create(upstream_config.cfg.MODEL.TYPE, train=train)


def _parameters(model):
    """Return a dict of unscoped names to shapes."""
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    return {str(p).rpartition("/")[2]: workspace.FetchBlob(str(p)).shape for p in model.params}


@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize("libra", [{}, LIBRA], ids=["plain", "libra"])
def test_parameters_are_those_of_this_projects_models(cfg, tmp_path, model, libra):
    path = write_config(tmp_path, model, libra)
    expected = _parameters(build_model(configuration.load(path), train=True))
    assert ("bfp_theta_w" in expected) == bool(libra)
    assert _parameters(_create(path, True)) == expected


@pytest.mark.parametrize("network", ["ResNet18", "ResNet36_tiny", "EfficientNetLite0"])
def test_networks_of_this_project_are_found_by_name(cfg, tmp_path, network):
    body = ["MODEL.CONV_BODY", f"FPN.add_fpn_{network}_conv5_body"]
    path = write_config(tmp_path, "retinanet", {"RETINANET_HEAD": {"USE_GN": True}})
    expected = _parameters(build_model(configuration.load(path, body), train=True))
    assert _parameters(_create(path, True, *body)) == expected


def test_the_libra_node_selects_the_losses(cfg, tmp_path):
    path = write_config(tmp_path, "retinanet", {"LOG_PERIOD": 5})
    kinds = [op.type for op in _create(path, True).net.Proto().op]
    assert kinds.count("SelectSmoothL1Loss") == 4 and "SelectBalancedL1Loss" not in kinds
    overrides = ["LIBRA.BALANCED_L1.ON", "True", "LIBRA.RETINANET_SAMPLER.MODE", "reweight"]
    kinds = [op.type for op in _create(path, True, *overrides).net.Proto().op]
    assert "SelectSmoothL1Loss" not in kinds and "SigmoidFocalLoss" not in kinds
    if "Python" not in kinds:
        assert kinds.count("SelectBalancedL1Loss") == kinds.count("WeightedSigmoidFocalLoss") == 4


def test_weights_by_predictions_enter_both_losses(cfg, tmp_path):
    path = write_config(tmp_path, "retinanet", {})
    overrides = ["LIBRA.RETINANET_WEIGHTS.POSITIVE", "isr_p",
                 "LIBRA.RETINANET_WEIGHTS.BOX", "iou_balanced"]  # fmt: skip
    net = _create(path, True, *overrides).net.Proto()
    names = [op.name or op.type for op in net.op]
    assert names.count("PositiveWeights") == 1
    for kind in ("WeightedSelectSmoothL1Loss", "WeightedSigmoidFocalLoss"):
        assert names.count(kind) == 4
    assert "SelectSmoothL1Loss" not in names and "SigmoidFocalLoss" not in names


def test_negatives_are_weighed_by_their_gradients(cfg, tmp_path):
    negatives = {"WEIGHTS": "gradient_balanced"}
    path = write_config(tmp_path, "retinanet", {"RETINANET_NEGATIVES": negatives})
    model = _create(path, True)
    names = [op.name or op.type for op in model.net.Proto().op]
    assert names.count("NegativeWeights") == 1 and "SigmoidFocalLoss" not in names
    for kind in ("NegativeGradientMass", "WeightedSigmoidFocalLoss", "Gather"):
        assert names.count(kind) == 4
    assert "gpu_0/retnet_negative_masses" in map(str, model.params)
    assert "gpu_0/retnet_negative_masses" not in map(str, model.TrainableParams())


def test_the_libra_node_selects_the_class_loss(cfg, tmp_path):
    path = write_config(tmp_path, "retinanet", {"CLASS_LOSS": "quality_focal"})
    operators = _create(path, True).net.Proto().op
    assert not [op for op in operators if op.type.startswith("SigmoidFocalLoss")]
    quality = [op for op in operators if op.output and "retnet_quality_fpn" in op.output[0]]
    assert len([op for op in quality if not op.is_gradient_op]) == 4


def test_the_balanced_pyramid_trains_above_a_frozen_body(cfg, tmp_path):
    path = write_config(tmp_path, "faster_rcnn", LIBRA)
    model = _create(path, True, "TRAIN.FREEZE_CONV_BODY", "True")
    trained = {str(param).rpartition("/")[2] for param in model.TrainableParams()}
    assert {"bfp_theta_w", "bfp_out_w", "fc6_w"} <= trained
    assert not any(name.startswith(("res", "conv1", "fpn_")) for name in trained)


def test_group_norm_in_the_heads_shares_scales_between_levels(cfg, tmp_path):
    path = write_config(tmp_path, "retinanet", {"RETINANET_HEAD": {"USE_GN": True}})
    parameters = _parameters(_create(path, True))
    assert "retnet_cls_conv_n0_fpn3_gn_s" in parameters
    assert "retnet_cls_conv_n0_fpn4_gn_s" not in parameters


def test_every_configuration_loads(cfg, shared_path):
    from detectron.core.config import merge_cfg_from_file

    paths = list(shared_path("legacy/configs").glob("*/*.yaml"))
    for path in paths:
        merge_cfg_from_file(str(path))
        assert cfg.MODEL.CONV_BODY in path.read_text()
    assert len(paths) > 80


def test_every_detector_with_masks_or_keypoints_builds(cfg, shared_path):
    models, defaults = set(), copy.deepcopy(cfg)
    for path in sorted(shared_path("legacy/configs").glob("*/*.yaml")):
        config = configuration.load(str(path))
        if not (config.MODEL.MASK_ON or config.MODEL.KEYPOINTS_ON):
            continue
        nodes = ("MODEL", "RESNETS", "FPN", "RPN", "FAST_RCNN", "MRCNN", "KRCNN")
        model = str([config[node] for node in nodes])
        if model in models:  # 1x and 2x schedules of the same model
            continue
        models.add(model)
        # Settings of one file must not affect the next one.
        cfg.clear()
        cfg.update(copy.deepcopy(defaults))
        losses = _create(path, True).losses
        assert "loss_mask" in losses or "loss_kps" in losses
    assert len(models) >= 10
