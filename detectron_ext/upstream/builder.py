"""The check of LIBRA before upstream builds a model."""

from __future__ import annotations

from detectron_ext.upstream import cfg_node, cpu_mode
from detectron_ext.upstream.patches import Patch


def patches() -> list:
    """The patch of upstream's function that creates models."""
    parameters = ("model_type_func", "train", "gpu_id")
    return [Patch("detectron.modeling.model_builder", "create", parameters, _creating)]


def _creating(original):
    def create(model_type_func, train=False, gpu_id=0):
        cfg = cfg_node.upstream_cfg()
        cfg_node.check(cfg, train)
        if cpu_mode.is_on():
            cpu_mode.settle_devices(cfg)
        return original(model_type_func, train=train, gpu_id=gpu_id)

    return create
