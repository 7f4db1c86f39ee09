"""Merges the keys of a user, a nested map or a list of keys and values, into a tree."""

from __future__ import annotations

from typing import Any, Iterable

from detectron_ext.config.dataset_entry import entry_texts
from detectron_ext.config.key_names import dotted_key, retired, unknown_key
from detectron_ext.config.keys import FREE_FORM_SECTIONS
from detectron_ext.config.values import coerce, decode
from detectron_ext.errors import ConfigError, shown


def merge_map(tree: dict, given: dict, source: str) -> None:
    """Merge a nested map of keys into a tree, in place.

    Args:
        tree: nested dict as ``keys.default_tree`` returns it.
        given: nested dict with any subset of the tree's keys.
        source: where the keys were given (a file name), for messages.

    Raises:
        ConfigError: an unknown or renamed key, or a value of the wrong type.
    """
    _merge_section(tree, tree, given, "", source)


def merge_overrides(tree: dict, overrides: Iterable[Any], source: str) -> None:
    """Merge a flat list KEY, VALUE, KEY, VALUE, ... into a tree, in place.

    Raises:
        ConfigError: a list of odd length, an unknown or renamed key, a value of the wrong type.
    """
    overrides = as_pairs(overrides, source)
    for name, value in zip(overrides[0::2], overrides[1::2]):
        if not isinstance(name, str):
            raise ConfigError(f"{source} need a key's name before each value, given {shown(name)}")
        parts = _split(name, value)
        if _exists(tree, parts):
            merge_map(tree, _nested(parts, value), source)
        elif not retired(name, source):
            raise unknown_key(name, source, tree)


def as_pairs(overrides: Iterable[Any], source: str) -> list:
    """Return a flat list KEY, VALUE, KEY, VALUE, ... of even length.

    Raises:
        ConfigError: text, or a list of odd length.
    """
    if isinstance(overrides, (str, bytes)):
        raise ConfigError(f"{source} must be a list of keys and values, given {shown(overrides)}")
    overrides = list(overrides)
    if len(overrides) % 2:
        raise ConfigError(
            f"{source} must come in pairs KEY VALUE; {shown(overrides[-1])} has no partner"
        )
    return overrides


def _split(name: str, value: Any) -> list[str]:
    section, _, rest = name.partition(".")
    if section in FREE_FORM_SECTIONS and rest:
        # The user's names may have dots, as in coco_v1.0; the names of fields have none.
        is_entry = isinstance(decode(value), dict)
        return [section, rest] if is_entry else [section, *rest.rsplit(".", 1)]
    return name.split(".")


def _exists(tree: dict, parts: list[str]) -> bool:
    node: Any = tree
    for part in parts:
        if not isinstance(node, dict) or part not in node:
            return False
        if part in FREE_FORM_SECTIONS:
            return True
        node = node[part]
    return True


def _nested(parts: list[str], value: Any) -> dict:
    for part in reversed(parts):
        value = {part: value}
    return value


def _merge_section(root: dict, section: dict, given: dict, prefix: str, source: str) -> None:
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in section:
            if retired(name, source):
                continue
            parts = _split(name, value)
            known = _exists(root, parts)
            raise dotted_key(name, parts, source) if known else unknown_key(name, source, root)
        label = f"{name} in {source}"
        if not isinstance(section[key], dict):
            section[key] = coerce(value, section[key], label)
            continue
        inner = _section_given(value, label)
        if name in FREE_FORM_SECTIONS:
            _merge_datasets(section[key], inner, source)
        else:
            _merge_section(root, section[key], inner, name + ".", source)


def _section_given(value: Any, label: str) -> dict:
    value = decode(value)
    if value is None:  # a YAML section whose lines are all commented out
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{label} is a section and expects a map of keys, given {shown(value)}")
    return value


def _merge_datasets(datasets: dict, given: dict, source: str) -> None:
    """Add the user's data sets, or change fields of those that exist."""
    for name, fields in given.items():
        label = f"DATASETS_EXTRA.{name}"
        fields = _section_given(fields, f"{label} in {source}")
        datasets.setdefault(str(name), {}).update(entry_texts(fields, label, source))
