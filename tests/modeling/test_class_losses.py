"""The class losses that a configuration can name."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import workspace
from two_gpus import CONFIGS

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.class_losses import CLASS_LOSSES
from detectron_ext.ops import library, reference

_QUALITY = ("LIBRA.CLASS_LOSS", "quality_focal")
_SAMPLER, _WEIGHTS = "LIBRA.RETINANET_SAMPLER.MODE", "LIBRA.RETINANET_WEIGHTS.POSITIVE"


def _build(*overrides):
    path = str(CONFIGS / "retinanet_R-36-tiny.yaml")
    config = configuration.load(path, ["MODEL.NUM_CLASSES", "4", *overrides])
    return build_model(config, train=True)


def _types(model):
    return [op.type for op in model.net.Proto().op]


def test_quality_focal_replaces_the_focal_loss_of_every_level():
    if not library.has_native("QualityFocalLoss"):
        pytest.skip("needs native operators")
    types = _types(_build(*_QUALITY))
    for name in ("QualityFocalLoss", "QualityFocalLossGradient", "SelectBoxIou", "ScaleAnchors"):
        assert types.count(name) == 5
    assert "SigmoidFocalLoss" not in types
    assert "QualityFocalLoss" not in _types(_build())


def test_the_loss_has_the_exponent_and_the_factors_of_the_configuration():
    if not library.has_native("QualityFocalLoss"):
        pytest.skip("needs native operators")
    model = _build(*_QUALITY, "RETINANET.LOSS_GAMMA", "1.5", "LIBRA.LOSS_WEIGHTS.CLS", "3.0")
    (loss,) = [op for op in model.net.Proto().op if op.output[0] == "fl_fpn4"]
    arguments = {arg.name: arg.f or arg.i for arg in loss.arg}
    assert loss.type == "QualityFocalLoss"
    assert arguments["beta"] == 1.5 and arguments["scale"] == 3
    assert arguments["num_classes"] == model.config.MODEL.NUM_CLASSES - 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["RETINANET.SOFTMAX", "True"], "quality_focal needs RETINANET.SOFTMAX False"),
        ([_SAMPLER, "reweight"], "MODE reweight needs LIBRA.CLASS_LOSS focal"),
        (
            ["LIBRA.RETINANET_NEGATIVES.WEIGHTS", "gradient_balanced"],
            "WEIGHTS gradient_balanced needs LIBRA.CLASS_LOSS focal",
        ),
        ([_WEIGHTS, "iou_balanced"], "POSITIVE iou_balanced needs LIBRA.CLASS_LOSS focal"),
    ],
)
def test_what_quality_focal_cannot_use_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        _build(*_QUALITY, *overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [[], [_WEIGHTS, "uniform"], [_SAMPLER, "atss"]])
def test_the_target_of_a_positive_is_the_iou_of_its_predicted_box(overrides):
    model = _build(*_QUALITY, *overrides)
    operators = list(model.net.Proto().op)
    feeding = [
        op for op in operators
        if op.output and op.output[0].endswith(("_fpn5", "_fpn5_grad"))
        and op.output[0].startswith(("retnet_quality", "fl_fpn5"))
    ]  # fmt: skip
    workspace.ResetWorkspace()
    random = np.random.RandomState(0)
    labels = np.zeros((1, 9, 4, 4), np.int32)
    labels[0, 2, 1, 3], labels[0, 7, 0, 0] = 3, 1
    places = np.float32([[0, 8, 1, 3], [0, 28, 0, 0]])
    targets = 0.3 * random.randn(2, 4).astype(np.float32)
    predictions = 0.3 * random.randn(1, 36, 4, 4).astype(np.float32)
    logits = random.randn(1, 27, 4, 4).astype(np.float32)
    blobs = {
        "retnet_cls_pred_fpn5": logits,
        "retnet_cls_labels_fpn5": labels,
        "retnet_bbox_pred_fpn5": predictions,
        "retnet_roi_bbox_targets_fpn5": targets,
        "retnet_roi_fg_bbox_locs_fpn5": places,
        "retnet_fg_num": np.float32([3]),
    }
    for name, blob in blobs.items():
        workspace.FeedBlob(name, blob)
    for op in feeding:
        if not op.type.endswith("Gradient") and not op.is_gradient_op:
            workspace.RunOperatorOnce(op)
    iou = reference.select_box_iou(predictions, targets, places, max_log_scale=np.log(1000 / 16))
    quality = np.ones(labels.shape)
    quality[0, 2, 1, 3], quality[0, 7, 0, 0] = iou
    assert iou.min() > 0 and iou.max() < 1
    np.testing.assert_allclose(workspace.FetchBlob("retnet_quality_fpn5"), quality, rtol=1e-5)
    wanted = reference.quality_focal_loss(logits, labels, 3.0, quality, num_classes=3)
    np.testing.assert_allclose(workspace.FetchBlob("fl_fpn5"), wanted, rtol=1e-5)


@pytest.mark.usefixtures("restored_registries")
def test_a_class_loss_of_a_user_is_used_and_its_result_checked():
    seen = []

    @CLASS_LOSSES.register("own")
    def own(model, level, weights, blob_out, *, scale):
        seen.append((level, weights, blob_out, scale))
        return CLASS_LOSSES["focal"](model, level, weights, blob_out, scale=scale)

    _build("LIBRA.CLASS_LOSS", "own", "LIBRA.LOSS_WEIGHTS.CLS", "0.5")
    assert seen == [(level, None, f"fl_fpn{level}", 0.5) for level in range(3, 8)]
    CLASS_LOSSES.register("nothing")(lambda *given, scale: None)
    with pytest.raises(ConfigError, match="LIBRA.CLASS_LOSS nothing must return a blob"):
        _build("LIBRA.CLASS_LOSS", "nothing")
