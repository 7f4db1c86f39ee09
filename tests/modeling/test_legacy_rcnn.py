"""Detectron's own configurations of two-stage detectors, built without change."""

from __future__ import annotations

import json

import pytest
from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model

FACTS = "legacy/e2e_faster_rcnn_R-50-FPN_1x.params.json"
FASTER_RCNN = "legacy/configs/12_2017_baselines/e2e_faster_rcnn_R-50-FPN_1x.yaml"


@pytest.fixture
def facts(shared_path):
    return json.loads(shared_path(FACTS).read_text())


@pytest.fixture
def faster_rcnn(shared_path):
    return build_model(configuration.load(str(shared_path(FASTER_RCNN))), train=True)


def test_parameters_are_those_of_detectron(facts, faster_rcnn):
    workspace.ResetWorkspace()
    workspace.RunNetOnce(faster_rcnn.param_init_net)
    shapes = {str(p): list(workspace.FetchBlob(str(p)).shape) for p in faster_rcnn.params}
    assert shapes == facts["params"]
    assert sorted(map(str, faster_rcnn.trainable_params())) == sorted(facts["trainable"])


def test_operators_are_those_of_detectron(facts, faster_rcnn):
    if not ops.native_library_loaded():
        pytest.skip("Python operators hide their names; needs the native library")
    types = [op.type for op in faster_rcnn.net.Proto().op]
    for operator, count in facts["train_net_ops"].items():
        # Add and Copy average gradients over Detectron's 8 GPUs. In Detectron, proposals and their
        # labels are Python operators; here only the labels are.
        if operator not in ("Add", "Copy", "Python"):
            assert types.count(operator) == count, operator
    assert types.count("GenerateProposals") == 5
    assert types.count("Python") == 1


def _outputs(model):
    return {blob for op in model.net.Proto().op for blob in op.output}


def _legacy_rcnn_configs(shared_path, with_other_heads):
    """Return configurations with different models: one schedule (1x or 2x) of each model."""
    models = set()
    for path in sorted(shared_path("legacy/configs").glob("*/*.yaml")):
        config = configuration.load(str(path))
        model = str([config[node] for node in ("MODEL", "RESNETS", "FPN", "RPN", "FAST_RCNN")])
        other_heads = config.MODEL.MASK_ON or config.MODEL.KEYPOINTS_ON
        is_wanted = config.MODEL.TYPE != "retinanet" and other_heads == with_other_heads
        if is_wanted and model not in models:
            models.add(model)
            yield config


def test_every_detector_without_masks_or_keypoints_builds(shared_path):
    kinds = set()
    for config in _legacy_rcnn_configs(shared_path, with_other_heads=False):
        kind = "rpn" if config.MODEL.RPN_ONLY else "faster" if config.RPN.RPN_ON else "fast"
        losses = build_model(config, train=True).losses
        assert ("loss_bbox" in losses) == (kind != "rpn")
        assert any(loss.startswith("loss_rpn_cls") for loss in losses) == (kind != "fast")
        expected = {"rpn_rois", "rpn_roi_probs"} if kind == "rpn" else {"cls_prob", "bbox_pred"}
        assert expected <= _outputs(build_model(config, train=False))
        kinds.add((kind, config.FPN.FPN_ON))
    assert kinds == {(kind, fpn) for kind in ("rpn", "faster", "fast") for fpn in (True, False)}


def test_the_message_about_masks_and_keypoints_names_the_adapter(shared_path):
    refused = 0
    for config in _legacy_rcnn_configs(shared_path, with_other_heads=True):
        with pytest.raises(ConfigError, match=r"^MODEL\.\w+_ON .*ext\.upstream") as caught:
            build_model(config, train=True)
        assert "\n" not in str(caught.value)
        refused += 1
    assert refused >= 10
