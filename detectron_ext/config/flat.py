"""A configuration as one flat map, to be recorded or compared with another."""

from __future__ import annotations

from typing import Any, Iterator

from detectron_ext.config.tree import Config
from detectron_ext.config.yaml_text import dump_yaml, load_legacy_yaml, parse_yaml


def flat_settings(config: Config) -> dict:
    """Return {KEY: value}: dotted keys, and plain values as the configuration's YAML holds them.

    Tuples and arrays are lists. Keys stand in alphabetical order of their sections.
    """
    return dict(_leaves(parse_yaml(dump_yaml(config), "the configuration")))


def flat_legacy_settings(text: str | bytes) -> dict:
    """The same of the YAML text inside a weights file, see :func:`load_legacy_yaml`.

    Raises:
        ConfigError: as :func:`load_legacy_yaml`.
    """
    return dict(_leaves(load_legacy_yaml(text)))


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _as_lists(value)


def _as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_lists(element) for element in value]
    return value
