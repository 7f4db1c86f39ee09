"""The configuration: upstream Detectron's tree, one LIBRA node, YAML files and overrides.

    config = load("configs/my.yaml", ["TRAIN.MAX_SIZE", "512"])
    config.TRAIN.MAX_SIZE

Nothing here is global: a configuration is loaded once, cannot be changed, and is handed on.
"""

from __future__ import annotations

from ..errors import ConfigError
from .flat import flat_legacy_settings, flat_settings
from .loader import load
from .model_kind import is_retinanet, reads_proposals
from .output import output_dir
from .tree import Config, ConfigNode
from .yaml_text import dump_legacy_yaml, dump_yaml, load_legacy_yaml

__all__ = [
    "Config",
    "ConfigError",
    "ConfigNode",
    "dump_legacy_yaml",
    "dump_yaml",
    "flat_legacy_settings",
    "flat_settings",
    "is_retinanet",
    "load",
    "load_legacy_yaml",
    "output_dir",
    "reads_proposals",
]
