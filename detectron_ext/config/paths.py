"""The home folder and environment variables in paths."""

from __future__ import annotations

import os

from detectron_ext.config.dotted import value_at
from detectron_ext.config.keys import KEYS
from detectron_ext.errors import ConfigError


def expand_path(path: str) -> str:
    """Return a path with the home folder for ``~`` and with the values of ``$NAME``.

    Raises:
        ConfigError: the path holds a null character or half of a surrogate pair, which no file
            system takes.
    """
    if "\0" in path:
        raise ConfigError(f"{path!r} is no path: it holds a null character")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path!a} is no path: {error.reason}") from error
    return os.path.expandvars(os.path.expanduser(path))


def expand_paths(tree: dict) -> None:
    """Expand the values of all keys that name files or folders, in place.

    The paths of data sets are expanded where they are looked up (`data.catalog`).

    Args:
        tree: nested dict as ``keys.default_tree`` returns it.
    """
    for name, key in KEYS.items():
        if not key.is_path:
            continue
        section, _, last = name.rpartition(".")
        node = value_at(tree, section) if section else tree
        value = node[last]
        if isinstance(value, str):
            node[last] = expand_path(value)
        else:  # elements of another type are refused later
            node[last] = type(value)(expand_path(v) if isinstance(v, str) else v for v in value)
