"""Patches of RetinaNet's heads, losses and training targets."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.config.keys import KEYS
from detectron_ext.geometry.anchors import pyramid_levels
from detectron_ext.modeling.anchor_weights import weighs_anchors
from detectron_ext.modeling.retinanet import add_retinanet_heads, add_retinanet_losses
from detectron_ext.sampling.retinanet_targets import RetinanetTargets, own_blob_names
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.ground_truth import GroundTruth, draw_source
from detectron_ext.upstream.made_once import MadeOnce
from detectron_ext.upstream.model_methods import has_upstreams_losses, loss_gradients
from detectron_ext.upstream.patches import Patch
from detectron_ext.upstream.pyramid import to_pyramid

_HEADS = "detectron.modeling.retinanet_heads"
_DATA = "detectron.roi_data.retinanet"


def patches() -> list[Patch]:
    """Return the patches of upstream's RetinaNet heads and minibatches."""
    return [
        Patch(
            _HEADS,
            "add_fpn_retinanet_outputs",
            ("model", "blobs_in", "dim_in", "spatial_scales"),
            _adding_outputs,
        ),
        Patch(_HEADS, "add_fpn_retinanet_losses", ("model",), _adding_losses),
        Patch(_DATA, "get_retinanet_blob_names", ("is_training",), _naming_blobs),
        Patch(
            _DATA,
            "add_retinanet_blobs",
            ("blobs", "im_scales", "roidb", "image_width", "image_height"),
            _adding_blobs,
        ),
    ]


def _adding_outputs(original: Callable) -> Callable:
    def add(model, blobs_in, dim_in, spatial_scales):
        if not upstream_cfg().LIBRA.RETINANET_HEAD.USE_GN:
            return original(model, blobs_in, dim_in, spatial_scales)
        return add_retinanet_heads(model, to_pyramid(blobs_in, dim_in, spatial_scales))

    return add


def _adding_losses(original: Callable) -> Callable:
    def add(model):
        cfg = upstream_cfg()
        is_focal = KEYS["LIBRA.CLASS_LOSS"].default == cfg.LIBRA.CLASS_LOSS
        if has_upstreams_losses() and is_focal and not weighs_anchors(cfg):
            return original(model)
        return loss_gradients(model, add_retinanet_losses(model, pyramid_levels(cfg)))

    return add


def _naming_blobs(original: Callable) -> Callable:
    def name(is_training=True):
        names = original(is_training=is_training)
        return names + own_blob_names(upstream_cfg()) if is_training else names

    return name


def _adding_blobs(original: Callable) -> Callable:
    once = MadeOnce(RetinanetTargets)

    def add(blobs, im_scales, roidb, image_width, image_height):
        is_upstreams = upstream_cfg().LIBRA.RETINANET_SAMPLER.MODE == "none"
        if is_upstreams and not own_blob_names(upstream_cfg()):
            return original(blobs, im_scales, roidb, image_width, image_height)
        truth = [GroundTruth.of(entry, scale) for entry, scale in zip(roidb, im_scales)]
        made = once.of(upstream_cfg())(truth, image_height, image_width, draw_source())
        blobs.update((name, blob) for name, blob in made.items() if name in blobs)
        blobs["im_info"] = np.array(
            [[*image.size, scale] for image, scale in zip(truth, im_scales)], dtype=np.float32
        )
        return True

    return add
