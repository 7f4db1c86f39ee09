"""The configuration: upstream Detectron's tree, one LIBRA node, YAML files and overrides.

    config = load("configs/my.yaml", ["TRAIN.MAX_SIZE", "512"])
    config.TRAIN.MAX_SIZE

Nothing here is global: a configuration is loaded once, cannot be changed, and is handed on.
"""

from __future__ import annotations

from detectron_ext.config.dotted import value_at
from detectron_ext.config.flat import flat_legacy_settings, flat_settings
from detectron_ext.config.loader import load
from detectron_ext.config.model_kind import (
    ignores_crowd_anchors,
    is_retinanet,
    reads_proposals,
)
from detectron_ext.config.output import future_output_dir, output_dir, run_folder
from detectron_ext.config.tree import Config, ConfigNode
from detectron_ext.config.yaml_text import dump_legacy_yaml, dump_yaml, load_legacy_yaml
from detectron_ext.errors import ConfigError

__all__ = [
    "Config",
    "ConfigError",
    "ConfigNode",
    "dump_legacy_yaml",
    "dump_yaml",
    "flat_legacy_settings",
    "flat_settings",
    "future_output_dir",
    "ignores_crowd_anchors",
    "is_retinanet",
    "load",
    "load_legacy_yaml",
    "output_dir",
    "reads_proposals",
    "run_folder",
    "value_at",
]
