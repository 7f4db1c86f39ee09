"""What is read from the configuration that mmdetection stores as source text."""

from __future__ import annotations

import pytest
from checkpoint_file import write_checkpoint
from mmdet_random import random_state

from detectron_ext.conversion.mmdet import convert_checkpoint, convert_mmdet_weights
from detectron_ext.conversion.mmdet_settings import CheckpointSettings, read_settings
from detectron_ext.errors import UserError, WeightsError

_VERSION_2 = """
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=50, style='caffe'),
    neck=[dict(type='FPN', add_extra_convs='on_output', relu_before_extra_convs=True, num_outs=5),
          dict(type='BFP')],
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.5)))
img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
load_from = open('/nothing') if False else None
"""
_VERSION_3 = """
model = dict(
    backbone=dict(depth=50, style='pytorch', type='ResNet'),
    data_preprocessor=dict(bgr_to_rgb=True, mean=[1, 2, 3], std=[4, 5, 6], pad_size_divisor=32),
    neck=dict(add_extra_convs='on_input', num_outs=5, type='FPN'))
"""


def test_settings_of_version_2_are_read():
    settings = read_settings({"config": _VERSION_2, "CLASSES": ("cat", "dog")})
    assert settings == CheckpointSettings(
        style="caffe",
        mean=(103.53, 116.28, 123.675),
        std=(1, 1, 1),
        to_rgb=False,
        extra_levels_relu=True,
        extra_levels_on="on_output",
        classes=("cat", "dog"),
    )


def test_settings_of_version_3_are_read():
    settings = read_settings({"cfg": _VERSION_3, "dataset_meta": {"classes": ["cat"]}})
    assert settings == CheckpointSettings(
        mean=(1, 2, 3), std=(4, 5, 6), extra_levels_on="on_input", classes=("cat",)
    )


@pytest.mark.parametrize("source", [None, "", "model = dict(", "x" * 10, 7, "(" * 500])
def test_meta_data_without_settings_give_the_published_settings(source):
    assert read_settings({"config": source, "CLASSES": 3}) == CheckpointSettings()


_LEVELS = """
model = dict(
    neck=[dict(type='FPN'), dict(type='BFP', num_levels={levels}, refine_level={level})],
    {head}=dict(anchor_generator=dict(type='AnchorGenerator', ratios=[{ratio}, 1.0, 2.0], {scale})))
"""


@pytest.mark.parametrize(
    ("arch", "published", "other", "overrides"),
    [
        (
            "libra_retinanet_r50",
            {"level": 1, "scale": "octave_base_scale=4", "ratio": 0.5},
            {"level": 2, "scale": "octave_base_scale=2", "ratio": 0.4},
            {
                "RETINANET.ANCHOR_SCALE": 2,
                "RETINANET.ASPECT_RATIOS": (0.4, 1, 2),
                "LIBRA.BFP.REFINE_LEVEL": 5,
            },
        ),
        (
            "libra_faster_rcnn_r50",
            {"level": 2, "scale": "scales=[8]", "ratio": 0.5},
            {"level": 1, "scale": "scales=[4]", "ratio": 0.4},
            {
                "FPN.RPN_ANCHOR_START_SIZE": 16,
                "FPN.RPN_ASPECT_RATIOS": (0.4, 1, 2),
                "LIBRA.BFP.REFINE_LEVEL": 3,
            },
        ),
    ],
)
def test_anchors_and_refine_level_are_read(place, arch, published, other, overrides):
    for settings, expected in ((published, {}), (other, overrides)):
        source = _LEVELS.format(levels=5, head="bbox_head", **settings)
        path = write_checkpoint(place("m.pth"), arch, {"config": source})
        found = convert_checkpoint(path, arch).overrides
        assert dict(zip(found[::2], found[1::2])) == expected


def test_text_is_parsed_and_not_run(tmp_path):
    marker = tmp_path / "made"
    source = f"import os\nx = dict(style=os.mkdir({str(marker)!r}), depth=50)\n"
    assert read_settings({"config": source}) == CheckpointSettings()
    assert not marker.exists()


def test_differences_from_the_shipped_configuration_are_returned(place):
    """A backbone of style caffe: order BGR, no division by std, stride in the first convolution."""
    path = write_checkpoint(place("m.pth"), "libra_retinanet_r50", {"config": _VERSION_2})
    with pytest.raises(WeightsError, match="another --arch"):
        convert_checkpoint(path, "retinanet_r50")
    with pytest.raises(WeightsError, match="has no neck.0.lateral_convs.3"):
        convert_checkpoint(path, "libra_faster_rcnn_r50")
    blobs, overrides, classes = convert_checkpoint(path, "libra_retinanet_r50")
    assert overrides == ["RESNETS.STRIDE_1X1", True, "LIBRA.FPN.EXTRA_LEVELS_RELU", True]
    assert classes is None
    first = random_state("libra_retinanet_r50")["backbone.conv1.weight"]
    assert (blobs["conv1_w"] == first).all()
    blobs, overrides, _ = convert_checkpoint(path, "libra_retinanet_r50", style="pytorch")
    assert overrides == ["LIBRA.FPN.EXTRA_LEVELS_RELU", True]
    assert abs(blobs["conv1_w"][:, 0] - first[:, 2] / 57.375).max() < 1e-7
    with pytest.raises(UserError, match="is the checkpoint itself"):
        convert_mmdet_weights(path, path, "libra_retinanet_r50")


@pytest.mark.parametrize(
    "name, shape, fault",
    [
        (
            "backbone.conv1.weight",
            (64, 4, 7, 7),
            r"shape \(64, 4, 7, 7\), not \(any, 3, any, any\)",
        ),
        ("bbox_head.retina_cls.weight", (7, 256, 3, 3), "7 outputs, not a multiple of 9 anchors"),
        ("bbox_head.retina_reg.weight", (24, 256, 3, 3), "24 outputs, not 4 for each of 9 anchors"),
        (
            "bbox_head.extra.weight",
            (1,),
            "it has bbox_head.extra.weight, which this network does not have",
        ),
    ],
)
def test_other_shapes_and_tensors_are_named(place, name, shape, fault):
    bias = {name.replace("weight", "bias"): shape[:1]} if "retina" in name else {}
    path = write_checkpoint(place("m.pth"), "retinanet_r50", shapes={name: shape, **bias})
    with pytest.raises(WeightsError, match=fault):
        convert_checkpoint(path, "retinanet_r50")
