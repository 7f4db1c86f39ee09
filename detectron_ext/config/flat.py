"""A configuration as one flat map, to be recorded or compared with another."""

from __future__ import annotations

from typing import Any

from detectron_ext.config.dotted import leaves
from detectron_ext.config.tree import Config
from detectron_ext.config.yaml_text import dump_yaml, load_legacy_yaml, parse_yaml


def flat_settings(config: Config) -> dict:
    """Return {KEY: value} with dotted keys, and with values as in the configuration's YAML.

    Tuples and arrays become lists. The keys are in alphabetical order of their sections.
    """
    return _flat(parse_yaml(dump_yaml(config), "the configuration"))


def flat_legacy_settings(text: str | bytes) -> dict:
    """Return the same map for the YAML text of a weights file; see :func:`load_legacy_yaml`.

    Raises:
        ConfigError: as :func:`load_legacy_yaml`.
    """
    return _flat(load_legacy_yaml(text))


def _flat(tree: dict) -> dict:
    return {name: _as_lists(value) for name, value in leaves(tree)}


def _as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_lists(element) for element in value]
    return value
