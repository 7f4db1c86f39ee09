"""Patches of upstream's model builder and of its training statistics."""

from __future__ import annotations

import importlib
from typing import Any, Callable

from detectron_ext.modeling.bodies import BODIES, add_conv_body
from detectron_ext.upstream import cfg_node, cpu_mode
from detectron_ext.upstream.patches import Patch
from detectron_ext.upstream.pyramid import to_upstream

_BUILDER = "detectron.modeling.model_builder"


def patches() -> list[Patch]:
    """Return the patches of creating models, of finding bodies and of training statistics."""
    create = ("model_type_func", "train", "gpu_id")
    statistics = "detectron.utils.training_stats"
    return [
        Patch(_BUILDER, "create", create, _creating),
        Patch(_BUILDER, "get_func", ("func_name",), _finding),
        Patch(statistics, "TrainingStats.__init__", ("self", "model"), _starting_statistics),
    ]


def _creating(original: Callable) -> Callable:
    """Check LIBRA before a model is built."""

    def create(model_type_func, train=False, gpu_id=0):
        cfg = cfg_node.upstream_cfg()
        cfg_node.check(cfg, train)
        if cpu_mode.is_on():
            cpu_mode.settle_devices(cfg)
        return original(model_type_func, train=train, gpu_id=gpu_id)

    return create


def _finding(original: Callable) -> Callable:
    """Find the bodies of BODIES that upstream does not have. Upstream's own bodies are kept."""

    def find(func_name):
        if func_name in BODIES and not _is_upstreams(func_name):
            return _add_body
        return original(func_name)

    return find


def _is_upstreams(func_name: str) -> bool:
    module, _, name = func_name.rpartition(".")
    try:
        return hasattr(
            importlib.import_module(f"detectron.modeling.{module or 'model_builder'}"), name
        )
    except ImportError:
        return False


def _add_body(model: Any) -> tuple:
    """Add the body that MODEL.CONV_BODY names, and return its result in upstream's form."""
    pyramid = add_conv_body(model)
    blobs, dim, scales = to_upstream(pyramid)
    return (blobs, dim, scales) if len(blobs) > 1 else (blobs[0], dim, scales[0])


def _starting_statistics(original: Callable) -> Callable:
    """Let LIBRA.LOG_PERIOD set how often upstream logs."""

    def start(self, model):
        original(self, model)
        self.LOG_PERIOD = cfg_node.upstream_cfg().LIBRA.LOG_PERIOD

    return start
