"""Patches of the draw of anchors that train upstream's RPN, and of its losses."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.geometry.anchors import rpn_anchor_levels
from detectron_ext.modeling.rpn import add_rpn_losses
from detectron_ext.sampling.rpn_targets import RpnTargets, divides_by_drawn
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.ground_truth import GroundTruth, draw_source
from detectron_ext.upstream.made_once import MadeOnce
from detectron_ext.upstream.model_methods import loss_gradients
from detectron_ext.upstream.patches import Patch

_BLOBS = ("labels_int32", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


def patches() -> list[Patch]:
    """Return the patches of upstream's RPN minibatches and losses."""
    parameters = ("im_height", "im_width", "foas", "all_anchors", "gt_boxes")
    single = "add_single_scale_rpn_losses"
    return [
        Patch("detectron.roi_data.rpn", "_get_rpn_blobs", parameters, _making_blobs),
        Patch("detectron.modeling.FPN", "add_fpn_rpn_losses", ("model",), _adding_losses),
        Patch("detectron.modeling.rpn_heads", single, ("model",), _adding_losses),
    ]


def _adding_losses(original: Callable) -> Callable:
    def add(model):
        if not divides_by_drawn(upstream_cfg()):
            return original(model)
        return loss_gradients(model, add_rpn_losses(model))

    return add


def _making_blobs(original: Callable) -> Callable:
    targets = MadeOnce(RpnTargets)

    def make(im_height, im_width, foas, all_anchors, gt_boxes):
        cfg = upstream_cfg()
        settings = cfg.LIBRA.SAMPLER
        is_changed = settings.RPN or settings.RPN_NEG_POS_UB >= 0 or divides_by_drawn(cfg)
        if not is_changed:
            return original(im_height, im_width, foas, all_anchors, gt_boxes)
        count = len(gt_boxes)
        truth = GroundTruth(
            boxes=np.asarray(gt_boxes, dtype=np.float32).reshape(-1, 4),
            classes=np.ones(count, dtype=np.int32),
            is_crowd=np.zeros(count, dtype=bool),
            size=(int(im_height), int(im_width)),
        )
        # Upstream's maps cover the largest possible image. The net cuts them to its size.
        side = int(foas[0].field_size * foas[0].stride)
        blobs = targets.of(cfg)([truth], side, side, draw_source())
        by_level = [
            {f"rpn_{name}_wide": blobs[f"rpn_{name}_wide{level.suffix}"] for name in _BLOBS}
            for level in rpn_anchor_levels(cfg)
        ]
        return by_level[0] if len(by_level) == 1 else by_level

    return make
