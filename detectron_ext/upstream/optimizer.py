"""Patch of upstream's parameter updates: the norm of the gradients is limited before them."""

from __future__ import annotations

from typing import Callable

from detectron_ext.modeling.gradient_clipping import add_gradient_clipping
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch


def patches() -> list[Patch]:
    """Return the patch of upstream's updates of one replica."""
    name = "add_single_gpu_param_update_ops"
    return [Patch("detectron.modeling.optimizer", name, ("model", "gpu_id"), _updating)]


def _updating(original: Callable) -> Callable:
    def add(model, gpu_id):
        limit = upstream_cfg().LIBRA.CLIP_GRADIENTS
        if limit:
            add_gradient_clipping(model, model.TrainableParams(gpu_id=gpu_id), limit)
        original(model, gpu_id)

    return add
