"""Two-stage detectors: Faster R-CNN, Fast R-CNN on precomputed proposals, or an RPN-only model.

MODEL.FASTER_RCNN and MODEL.RPN_ONLY decide which of them is built. FPN.FPN_ON decides whether it
works on a feature pyramid or on one map.
"""

from __future__ import annotations

from detectron_ext.config import reads_proposals
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.balanced_pyramid import add_balanced_pyramid
from detectron_ext.modeling.bodies import add_conv_body
from detectron_ext.modeling.box_heads import add_box_head
from detectron_ext.modeling.fast_rcnn import add_fast_rcnn_losses, add_fast_rcnn_outputs
from detectron_ext.modeling.fpn import MULTILEVEL_KEYS, Pyramid
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.proposals import (
    add_best_proposals,
    add_labelled_proposals,
    add_proposals,
    add_test_rois,
)
from detectron_ext.modeling.rpn import add_rpn_heads, add_rpn_losses


def add_generalized_rcnn(model: DetectionModel) -> list:
    """Add the detector's graph, and return the loss blobs; there are none at test time.

    Raises:
        ConfigError: parts that are not built here, or settings that contradict each other.
    """
    config = model.config
    _refuse_other_heads(config)
    _refuse_contradictions(config)
    pyramid = _add_features(model)
    losses = []
    if config.RPN.RPN_ON:
        losses += _add_rpn(model, _levels(config, pyramid, "RPN"))
    if not config.MODEL.RPN_ONLY:
        blob, dim = add_box_head(model, _levels(config, pyramid, "ROI"))
        add_fast_rcnn_outputs(model, blob, dim)
        losses += add_fast_rcnn_losses(model) if model.train else []
    return losses


def _refuse_other_heads(config: Settings) -> None:
    for key in ("MASK_ON", "KEYPOINTS_ON"):
        if config.MODEL[key]:
            raise ConfigError(
                f"MODEL.{key} is not built here: install these parts into a checkout of Detectron, "
                "which has that head, with detectron_ext.upstream"
            )


def _refuse_contradictions(config: Settings) -> None:
    if config.MODEL.RPN_ONLY and config.MODEL.FASTER_RCNN:
        raise ConfigError(
            "MODEL.RPN_ONLY True builds an RPN without a head, and MODEL.FASTER_RCNN True builds "
            "both: set one of them to False"
        )
    if config.RPN.RPN_ON and reads_proposals(config):
        raise ConfigError(
            "RPN.RPN_ON True needs MODEL.FASTER_RCNN True or MODEL.RPN_ONLY True; Fast R-CNN on "
            "proposals from a file has no RPN"
        )


def _check_body(config: Settings, pyramid: Pyramid) -> None:
    """Check that the body has a pyramid if, and only if, FPN.FPN_ON is True.

    Padding of images and names of blobs follow FPN.FPN_ON.
    """
    if pyramid.is_one_map == config.FPN.FPN_ON:
        kind = "is no" if config.FPN.FPN_ON else "is a"
        raise ConfigError(
            f"MODEL.CONV_BODY {config.MODEL.CONV_BODY} {kind} pyramid: set FPN.FPN_ON to "
            f"{not config.FPN.FPN_ON}, or choose another body"
        )


def _add_features(model: DetectionModel) -> Pyramid:
    config = model.config
    pyramid = add_conv_body(model)
    _check_body(config, pyramid)
    if config.TRAIN.FREEZE_CONV_BODY:
        for blob in pyramid.blobs:
            model.net.StopGradient(blob, blob)
    return add_balanced_pyramid(model, pyramid) if config.LIBRA.BFP.ON else pyramid


def _levels(config: Settings, pyramid: Pyramid, kind: str) -> Pyramid:
    """Return the levels that the RPN (kind "RPN") or the head on regions (kind "ROI") uses."""
    if not config.FPN.FPN_ON:
        return pyramid
    key = MULTILEVEL_KEYS[kind]
    if not config.FPN[key]:
        raise ConfigError(f"FPN.{key} must be True if FPN.FPN_ON is True: set it to True")
    return pyramid.between(config.FPN[f"{kind}_MIN_LEVEL"], config.FPN[f"{kind}_MAX_LEVEL"])


def _add_rpn(model: DetectionModel, pyramid: Pyramid) -> list:
    config = model.config
    stride = 2 ** pyramid.levels[0]
    if not config.FPN.FPN_ON and stride != config.RPN.STRIDE:
        raise ConfigError(
            f"RPN.STRIDE {config.RPN.STRIDE} is not the stride of MODEL.CONV_BODY: set it to "
            f"{stride}"
        )
    add_rpn_heads(model, pyramid)
    if not model.train or config.MODEL.FASTER_RCNN:
        add_proposals(model)
    if model.train:
        if config.MODEL.FASTER_RCNN:
            add_labelled_proposals(model)
        return add_rpn_losses(model)
    if config.MODEL.FASTER_RCNN:
        add_test_rois(model)
    else:
        add_best_proposals(model)
    return []
