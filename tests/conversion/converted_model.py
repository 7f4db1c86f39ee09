"""Runs a converted model here and names its outputs as the peer program does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from caffe2.python import core, workspace
from mmdet_random import regions

from detectron_ext import config as configuration
from detectron_ext.conversion.mmdet import config_path
from detectron_ext.data.minibatch import prepare_image
from detectron_ext.engine import detector as detector_module
from detectron_ext.geometry.roi_levels import distribute_rois

# As the peer program has it.
SCALE = 1.25


def run(arch: str, weights: str, image: np.ndarray, monkeypatch) -> dict:
    """Raw outputs and detections on an image, named and ordered as mmdetection's.

    The image counts as one that was enlarged by `SCALE` to be what it is.

    Returns:
        cls_<i>, box_<i> of every level, finest first; with two stages head_cls, head_box of
        `mmdet_random.regions`; detections (D, 6) rows x1, y1, x2, y2 (edges), score, class.
    """
    config = _load(arch, image)
    monkeypatch.setattr(
        detector_module,
        "prepare_image",
        lambda _, config, proposals: replace(prepare_image(image, config), scale=SCALE),
    )
    detector = detector_module.Detector(config, weights)
    original = np.zeros([round(side / SCALE) for side in image.shape[:2]] + [3], np.uint8)
    detections = detector(original) + np.float32([0, 0, 1, 1, 0, 0])
    if "retinanet" in arch:
        outputs = _level_outputs(config, "retnet_cls_pred", "retnet_bbox_pred")
        outputs = {name: _ratios_outermost(value) for name, value in outputs.items()}
    else:
        outputs = _level_outputs(config, "rpn_cls_logits", "rpn_bbox_pred")
        outputs.update(_head_outputs(detector._net._model, config, image))
    return {**outputs, "detections": detections}


def _load(arch, image):
    """The configuration under which the image keeps its size."""
    sizes = ["TEST.SCALE", min(image.shape[:2]), "TEST.MAX_SIZE", max(image.shape)]
    return configuration.load(config_path(arch), [*sizes, "NUM_GPUS", 0])


def _level_outputs(config, class_name, box_name):
    levels = range(config.FPN.RPN_MIN_LEVEL, config.FPN.RPN_MAX_LEVEL + 1)
    return {
        f"{kind}_{index}": workspace.FetchBlob(f"{name}_fpn{level}")
        for kind, name in (("cls", class_name), ("box", box_name))
        for index, level in enumerate(levels)
    }


def _ratios_outermost(value):
    octaves = value.reshape((1, 3, 3, -1) + value.shape[2:])
    return octaves.swapaxes(1, 2).reshape(value.shape)


def _head_outputs(model, config, image):
    """Outputs of the box head for given regions: the net from behind its own proposals on."""
    rois = regions(*image.shape[:2]) - np.float32([0, 0, 1, 1])
    rois = np.insert(rois, 0, np.float32(0), axis=1)
    for name, value in {"rois": rois, **distribute_rois(rois, config)}.items():
        workspace.FeedBlob(name, value)
    operators = model.net.Proto().op
    types = [operator.type for operator in operators]
    rest = core.Net("box_head")
    rest.Proto().op.extend(operators[types.index("CollectAndDistributeFpnRpnProposals") + 1 :])
    workspace.RunNetOnce(rest)
    scores, boxes = workspace.FetchBlob("cls_score"), workspace.FetchBlob("bbox_pred")
    return {"head_cls": np.roll(scores, -1, axis=1), "head_box": boxes[:, 4:]}
