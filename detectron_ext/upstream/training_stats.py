"""LIBRA.LOG_PERIOD in upstream's training log."""

from __future__ import annotations

from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch


def patches() -> list:
    """The patch of upstream's training statistics."""
    module = "detectron.utils.training_stats"
    return [Patch(module, "TrainingStats.__init__", ("self", "model"), _starting)]


def _starting(original):
    def start(self, model):
        original(self, model)
        self.LOG_PERIOD = upstream_cfg().LIBRA.LOG_PERIOD

    return start
