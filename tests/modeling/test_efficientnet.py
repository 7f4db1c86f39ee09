"""The body EfficientNet-Lite0: sizes of its maps, what is frozen, and its graph for GPUs."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace
from squares import REPOSITORY
from two_gpus import build_for_two_gpus

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.efficientnet import BLOCKS

_WITH_PYRAMID = ("MODEL.CONV_BODY", "FPN.add_fpn_EfficientNetLite0_conv5_body")
_STAGES = ("mb2_2_sum", "mb3_1_sum", "mb4_5_sum", "mb5_4_project")
_ONE_MAP = ("FPN.FPN_ON", False, "FPN.MULTILEVEL_RPN", False, "FPN.MULTILEVEL_ROIS", False)


def _build(detector, train, *overrides):
    path = REPOSITORY / "configs" / f"{detector}_R-36-tiny.yaml"
    pairs = ["MODEL.NUM_CLASSES", 3, *_WITH_PYRAMID, *overrides]
    return build_model(configuration.load(str(path), pairs), train)


def _run(model, height, width):
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    data = np.random.RandomState(0).normal(0, 60, (2, 3, height, width))
    workspace.FeedBlob("data", data.astype(np.float32))
    workspace.FeedBlob("im_info", np.float32([[height, width, 1]] * 2))
    workspace.RunNetOnce(model.net)


def test_stages_and_pyramid_have_their_sizes():
    _run(_build("retinanet", False), 96, 160)
    shapes = [workspace.FetchBlob(name).shape for name in _STAGES]
    assert shapes == [(2, 24, 24, 40), (2, 40, 12, 20), (2, 112, 6, 10), (2, 320, 3, 5)]
    assert workspace.FetchBlob("fpn_mb3_1_sum").shape == (2, 64, 12, 20)
    # Initial weights keep the size of what they are given, so that a network trains from scratch.
    assert all(0.5 < workspace.FetchBlob(name).std() < 3 for name in _STAGES)


def test_number_of_parameters():
    """The body lacks the last 1x1 convolution and the classifier of the network (4,652,008)."""
    model = _build("retinanet", False)
    workspace.RunNetOnce(model.param_init_net)
    names = [name for name in map(str, model.params) if name.startswith(("stem", "mb"))]
    assert len(names) == 3 * (1 + 3 * 16 - 1)
    head, classifier = 1280 * 320 + 2 * 1280, 1280 * 1000 + 1000
    found = sum(workspace.FetchBlob(name).size for name in names)
    assert found == 4652008 - head - classifier


@pytest.mark.parametrize("last, level, dim", [(4, 4, 112), (5, 5, 320)])
def test_odd_image_sides_are_halved_and_rounded_up(last, level, dim):
    """Every side is halved and rounded up, as TensorFlow's padding SAME does."""
    body = f"EfficientNet.add_EfficientNetLite0_conv{last}_body"
    model = _build("faster_rcnn", False, *_ONE_MAP, "RPN.STRIDE", 2**level, "MODEL.CONV_BODY", body)
    _run(model, 75, 129)
    sides = (-(-75 // 2**level), -(-129 // 2**level))
    assert workspace.FetchBlob(_STAGES[last - 2]).shape == (2, dim, *sides)


def test_a_pyramid_with_only_p2_is_built():
    body = "FPN.add_fpn_EfficientNetLite0_conv5_P2only_body"
    overrides = ["FPN.RPN_MIN_LEVEL", 2, "FPN.RPN_MAX_LEVEL", 2, "FPN.ROI_MIN_LEVEL", 2]
    model = _build(
        "faster_rcnn", False, "MODEL.CONV_BODY", body, *overrides, "FPN.ROI_MAX_LEVEL", 2
    )
    assert "fpn_mb2_2_sum_w" in map(str, model.params)


@pytest.mark.parametrize("freeze_at", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_frozen_stages_have_no_gradient(detector, freeze_at):
    """The pyramid starts from the maps of all stages, and gives frozen stages no gradient."""
    levels = ["FPN.RPN_MIN_LEVEL", 2] if detector == "faster_rcnn" else []
    model = _build(detector, True, *levels, "TRAIN.FREEZE_AT", freeze_at)
    trained = {str(param) for param in model.trainable_params()}
    assert not [name for name in trained if name.endswith(("_bn_s", "_bn_b"))]
    prefixes = {f"mb{stage}_": stage for stage in BLOCKS}
    for name in map(str, model.params):
        if name.startswith(("stem", "mb")) and name.endswith("_w"):
            stage = 2 if name.startswith("stem") else prefixes[name[:4]]
            assert (name in trained) == (stage > freeze_at), name


def test_a_head_for_residual_networks_is_refused():
    overrides = [
        *_ONE_MAP, "RPN.STRIDE", 16,
        "MODEL.CONV_BODY", "EfficientNet.add_EfficientNetLite0_conv4_body",
        "FAST_RCNN.ROI_BOX_HEAD", "ResNet.add_ResNet_roi_conv5_head",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="is no ResNet: choose another head"):
        _build("faster_rcnn", True, *overrides)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize("train", [True, False])
def test_the_graph_for_two_gpus_has_only_stock_operators(detector, train):
    model = build_for_two_gpus(detector, train, *_WITH_PYRAMID)
    body = [op for op in model.net.Proto().op if any("/mb" in blob for blob in op.output)]
    assert {op.type for op in body} >= {"Conv", "AffineChannel", "Clip", "Sum"}
    for op in body:
        assert op.device_option.device_type == caffe2_pb2.CUDA
        arguments = {argument.name: argument.i for argument in op.arg}
        uneven = arguments.get("pad_t", 0) != arguments.get("pad_b", 0)
        if op.type in ("Conv", "ConvGradient"):
            # cuDNN refuses uneven padding.
            assert (op.engine == "CUDNN") == (not uneven)
