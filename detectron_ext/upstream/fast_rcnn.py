"""Patches of the Fast R-CNN head's losses and of the draw of its training regions."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.modeling.fast_rcnn import add_fast_rcnn_losses
from detectron_ext.sampling.box_sampler import BoxSampler
from detectron_ext.sampling.proposal_targets import draw_regions
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.ground_truth import draw_source
from detectron_ext.upstream.made_once import MadeOnce
from detectron_ext.upstream.model_methods import has_upstreams_losses, loss_gradients
from detectron_ext.upstream.patches import Patch

# With this overlap a region is neither foreground nor background.
_NEITHER = -2.0


def patches() -> list[Patch]:
    """Return the patches of upstream's Fast R-CNN head and minibatches."""
    return [
        Patch(
            "detectron.modeling.fast_rcnn_heads", "add_fast_rcnn_losses", ("model",), _adding_losses
        ),
        Patch(
            "detectron.roi_data.fast_rcnn",
            "_sample_rois",
            ("roidb", "im_scale", "batch_idx"),
            _sampling_rois,
        ),
    ]


def _adding_losses(original: Callable) -> Callable:
    def add(model):
        if has_upstreams_losses():
            return original(model)
        return loss_gradients(model, add_fast_rcnn_losses(model))

    return add


def _sampling_rois(original: Callable) -> Callable:
    """Draw the regions, then call upstream's function with these regions only.

    Upstream's function adds masks and keypoints, which are then drawn from the same regions.
    """

    samplers = MadeOnce(lambda cfg: BoxSampler(cfg.LIBRA.SAMPLER, cfg.TRAIN.BG_THRESH_HI))

    def sample(roidb, im_scale, batch_idx):
        cfg = upstream_cfg()
        settings = cfg.LIBRA.SAMPLER
        if settings.NEGATIVE == settings.POSITIVE == "random":
            return original(roidb, im_scale, batch_idx)
        overlaps, matched = roidb["max_overlaps"], roidb["box_to_gt_ind_map"]
        parts = draw_regions(cfg.TRAIN, samplers.of(cfg), matched, overlaps, draw_source())
        drawn = np.concatenate(parts)
        remaining = np.full_like(overlaps, _NEITHER)
        remaining[drawn] = overlaps[drawn]
        return original(dict(roidb, max_overlaps=remaining), im_scale, batch_idx)

    return sample
