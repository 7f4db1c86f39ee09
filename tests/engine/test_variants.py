"""Less usual settings train, too: two steps each, with finite losses."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from detectron_ext import ops
from detectron_ext.data.proposals import write_proposals
from detectron_ext.engine.train import train

_VARIANTS = {
    "softmax": ["RETINANET.SOFTMAX", "True"],
    "class_specific": ["RETINANET.CLASS_SPECIFIC_BBOX", "True"],
    "shared_tower": ["RETINANET.SHARE_CLS_BBOX_TOWER", "True"],
    "bfp_conv_finest": [
        "LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_TYPE", "conv", "LIBRA.BFP.REFINE_LEVEL", "3",
    ],
    "bfp_none_coarsest": [
        "LIBRA.BFP.ON", "True", "LIBRA.BFP.REFINE_TYPE", "none", "LIBRA.BFP.REFINE_LEVEL", "7",
    ],
    "mmdet_formula": ["LIBRA.BALANCED_L1.ON", "True", "LIBRA.BALANCED_L1.FORMULA", "mmdet"],
    "softmax_select": ["RETINANET.SOFTMAX", "True", "LIBRA.RETINANET_SAMPLER.MODE", "select"],
    "atss": ["LIBRA.RETINANET_SAMPLER.MODE", "atss"],
    "cross_entropy_of_a_random_draw": [
        "RETINANET.LOSS_GAMMA", "0", "RETINANET.LOSS_ALPHA", "0.5", "RETINANET.PRIOR_PROB", "0.1",
        "LIBRA.RETINANET_SAMPLER.MODE", "select", "LIBRA.RETINANET_SAMPLER.NEGATIVE", "random",
        "LIBRA.RETINANET_SAMPLER.MIN_NEG", "0",
    ],
    "quality_focal": [
        "LIBRA.CLASS_LOSS", "quality_focal", "LIBRA.RETINANET_WEIGHTS.POSITIVE", "uniform",
    ],
    "basic_blocks": ["MODEL.CONV_BODY", "FPN.add_fpn_ResNet18_conv5_body"],
    "stock_convolution": ["LIBRA.FAST_CONV", "False"],
    "augmented": [
        "LIBRA.AUGMENTATION.SCALE_RANGE", "(0.7, 1.5)", "LIBRA.AUGMENTATION.CROP", "True",
        "LIBRA.AUGMENTATION.ROTATE90", "True", "LIBRA.AUGMENTATION.FLIP_VERTICAL", "True",
        "LIBRA.AUGMENTATION.COLOR_JITTER", "0.3",
    ],
    "no_memonger": ["MEMONGER", "False"],
    "frozen": ["TRAIN.FREEZE_AT", "3"],
}  # fmt: skip


def _losses(config):
    folder = os.path.dirname(train(config))
    with open(os.path.join(folder, "stats.jsonl")) as file:
        return [json.loads(line)["loss"] for line in file]


@pytest.mark.parametrize("name", _VARIANTS)
def test_each_variant_trains(tiny_config, name):
    config = tiny_config(*_VARIANTS[name], "SOLVER.MAX_ITER", "2", "LIBRA.LOG_PERIOD", "1")
    losses = _losses(config)
    assert len(losses) == 2 and np.isfinite(losses).all() and min(losses) > 0


def _check_python_operators(make_config, options, folder, monkeypatch):
    """Train with native operators, then with Python ones, and compare the losses.

    Without the native library both are Python operators, which then at least train.
    """
    options = [
        "LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True",
        "SOLVER.MAX_ITER", "3", "LIBRA.LOG_PERIOD", "1", *options,
    ]  # fmt: skip
    native = _losses(make_config(*options))
    monkeypatch.setattr(ops.library, "has_native", lambda operator: False)
    python = _losses(make_config(*options, "OUTPUT_DIR", str(folder / "python")))
    np.testing.assert_allclose(python, native, rtol=1e-3)


def test_python_operators_train_as_the_native_ones_do(tiny_config, tmp_path, monkeypatch):
    _check_python_operators(tiny_config, [], tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["faster_rcnn", "rpn", "fast_rcnn"])
def test_python_operators_train_two_stage_detectors_too(
    tiny_rcnn_config, kind, tmp_path, monkeypatch
):
    boxes = [np.float32([[8, 8, 60, 60], [64, 20, 120, 90], [0, 0, 127, 127]])] * 8
    path = str(tmp_path / "proposals.pkl")
    write_proposals(path, list(range(1, 9)), boxes, [np.float32([0.9, 0.8, 0.7])] * 8, cfg="")
    options = {
        "faster_rcnn": [],
        "rpn": ["MODEL.FASTER_RCNN", "False", "MODEL.RPN_ONLY", "True"],
        # Its heads leave the coarsest level of the pyramid unread.
        "fast_rcnn": ["MODEL.FASTER_RCNN", "False", "TRAIN.PROPOSAL_FILES", repr((path,))],
    }
    _check_python_operators(tiny_rcnn_config, options[kind], tmp_path, monkeypatch)


def _remove_boxes(folder, first_empty):
    """Remove the boxes of all images from an id on."""
    path = folder / "squares" / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] < first_empty]
    path.write_text(json.dumps(content))


_EMPTY = [
    "LIBRA.DATA.KEEP_EMPTY_IMAGES", "True", "TRAIN.IMS_PER_BATCH", "1", "TRAIN.USE_FLIPPED",
    "False", "SOLVER.MAX_ITER", "8", "LIBRA.LOG_PERIOD", "1",
]  # fmt: skip
_RETINANET_OPTIONS = {
    "plain": [],
    "balanced": ["LIBRA.BALANCED_L1.ON", "True", "LIBRA.RETINANET_SAMPLER.MODE", "reweight"],
    "select": ["LIBRA.RETINANET_SAMPLER.MODE", "select", *_VARIANTS["augmented"]],
    "softmax": ["RETINANET.SOFTMAX", "True"],
    "atss": ["LIBRA.RETINANET_SAMPLER.MODE", "atss"],
    "quality_focal": ["LIBRA.CLASS_LOSS", "quality_focal"],
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", _RETINANET_OPTIONS)
def test_retinanet_trains_on_images_without_boxes(tiny_config, tmp_path, name, native, monkeypatch):
    config = tiny_config(*_EMPTY, *_RETINANET_OPTIONS[name])
    _remove_boxes(tmp_path, 4)
    if not native:
        monkeypatch.setattr(ops.library, "has_native", lambda operator: False)
    losses = _losses(config)
    assert len(losses) == 8 and np.isfinite(losses).all() and min(losses) > 0


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", ["faster_rcnn", "rpn", "fast_rcnn"])
def test_two_stage_detectors_train_on_images_without_boxes(
    tiny_rcnn_config, tmp_path, kind, native, monkeypatch
):
    boxes = [np.float32([[8, 8, 60, 60], [64, 20, 120, 90], [0, 0, 127, 127]])] * 8
    path = str(tmp_path / "proposals.pkl")
    write_proposals(path, list(range(1, 9)), boxes, [np.float32([0.9, 0.8, 0.7])] * 8, cfg="")
    options = {
        "faster_rcnn": [
            "LIBRA.SAMPLER.NEGATIVE", "iou_balanced", "LIBRA.SAMPLER.POSITIVE",
            "instance_balanced", "LIBRA.SAMPLER.RPN", "True", "LIBRA.SAMPLER.RPN_NEG_POS_UB", "5.0",
        ],
        "rpn": ["MODEL.FASTER_RCNN", "False", "MODEL.RPN_ONLY", "True"],
        "fast_rcnn": ["MODEL.FASTER_RCNN", "False", "TRAIN.PROPOSAL_FILES", (path,)],
    }  # fmt: skip
    config = tiny_rcnn_config(*_EMPTY, *options[kind])
    _remove_boxes(tmp_path, 4)
    if not native:
        monkeypatch.setattr(ops.library, "has_native", lambda operator: False)
    losses = _losses(config)
    assert len(losses) == 8 and np.isfinite(losses).all() and min(losses) > 0
