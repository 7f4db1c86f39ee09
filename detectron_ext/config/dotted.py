"""Keys by their dotted names, such as TRAIN.MAX_SIZE, in nested maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping

if TYPE_CHECKING:
    from detectron_ext.config.settings import Node


def value_at(tree: Node, name: str) -> Any:
    """Return the section or value that a dotted name stands for.

    Args:
        tree: a configuration, a section of one, or any nested map.
        name: the keys on the way from ``tree`` to the value, joined with dots.

    Raises:
        KeyError: there is no such key.
    """
    value: Any = tree
    for part in name.split("."):
        value = value[part]
    return value


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every key of a nested map; sections are not yielded.

    Args:
        tree: a nested map.
        prefix: what is put before each name.
    """
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every section and key of a nested map."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from names(value, prefix + key + ".")
