"""Patch of the draw of anchors that train upstream's RPN."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.geometry.anchors import rpn_anchor_levels
from detectron_ext.sampling.rpn_targets import RpnTargets
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.ground_truth import GroundTruth, draw_source
from detectron_ext.upstream.made_once import MadeOnce
from detectron_ext.upstream.patches import Patch

_BLOBS = ("labels_int32", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


def patches() -> list[Patch]:
    """Return the patch of upstream's RPN minibatches."""
    parameters = ("im_height", "im_width", "foas", "all_anchors", "gt_boxes")
    return [Patch("detectron.roi_data.rpn", "_get_rpn_blobs", parameters, _making_blobs)]


def _making_blobs(original: Callable) -> Callable:
    targets = MadeOnce(RpnTargets)

    def make(im_height, im_width, foas, all_anchors, gt_boxes):
        cfg = upstream_cfg()
        if not cfg.LIBRA.SAMPLER.RPN and cfg.LIBRA.SAMPLER.RPN_NEG_POS_UB < 0:
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
