"""Loading: defaults, then a YAML file and the files it builds on, then overrides."""

from __future__ import annotations

import os
from typing import Any, Iterable

from detectron_ext.config.imports import KEY as IMPORTS
from detectron_ext.config.imports import import_parts
from detectron_ext.config.merge import as_pairs
from detectron_ext.config.paths import expand_path
from detectron_ext.config.tree import Config
from detectron_ext.config.yaml_text import PlainLoader, parse_yaml
from detectron_ext.errors import ConfigError
from detectron_ext.input_files import read_start
from detectron_ext.limits import MAX_YAML_CHARACTERS

_BASE = "_BASE_"


def load(path: str | os.PathLike | None = None, overrides: Iterable[Any] = ()) -> Config:
    """Return the configuration that a file and a list of overrides describe.

    The modules that LIBRA.IMPORTS lists are imported before the result is checked.

    Args:
        path: YAML file, or None for the defaults. Its key ``_BASE_`` may name a file, relative to
            it, that is merged first; that file may name another one.
        overrides: ``[KEY, VALUE, KEY, VALUE, ...]`` with dotted keys, merged last. Text is read
            as a Python literal if it is one.

    Returns:
        The merged configuration. It is read-only. LIBRA.IMPORTS has the entries of all files. URLs
        of weights stay as they are written.

    Raises:
        ConfigError: a file that cannot be read, invalid YAML, an unknown or renamed key, a wrong
            type, a value out of range or a contradiction, in one line.
    """
    layers = [] if path is None else read_chain(os.fspath(path))
    overrides = as_pairs(overrides, "the overrides")
    imported = import_parts(layers, overrides)
    if imported:
        overrides = [*overrides, IMPORTS, imported]
    return Config.build(layers, overrides)


def read_chain(path: str, loader_class: type = PlainLoader) -> list[tuple[dict, str]]:
    """Return (keys, file name) of a file and of all files it builds on, the first base first.

    Args:
        path: YAML file.
        loader_class: PyYAML's class that reads the text.

    Raises:
        ConfigError: a file that cannot be read, invalid YAML, or files that name each other in a
            circle; in one line.
    """
    layers: list[tuple[dict, str]] = []
    visited: list[str] = []
    while True:
        keys = _read_file(path, layers[-1][1] if layers else None, loader_class)
        identity = os.path.realpath(path)
        if identity in visited:
            circle = " -> ".join(os.path.basename(file) for file in [*visited, identity])
            raise ConfigError(f"{_BASE} of {layers[-1][1]} leads in a circle: {circle}")
        visited.append(identity)
        base = keys.pop(_BASE, None)
        layers.append((keys, path))
        if base is None:
            return layers[::-1]
        if not isinstance(base, str) or not base:
            raise ConfigError(f"{_BASE} in {path} expects one file name, given {base!r}")
        path = os.path.join(os.path.dirname(path), expand_path(base))


def _read_file(path: str, child: str | None, loader_class: type) -> dict:
    named_by = f" ({_BASE} of {child})" if child else ""
    try:
        text = read_start(path, MAX_YAML_CHARACTERS + 1)
    except IsADirectoryError:
        raise ConfigError(
            f"{path}{named_by} is a folder, not a config file; name a YAML file"
        ) from None
    except FileNotFoundError:
        raise ConfigError(f"config file {path}{named_by} does not exist") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"config file {path!r}{named_by} cannot be read: {reason}") from None
    keys = parse_yaml(text, path, loader_class)
    if keys is None:
        raise ConfigError(f"config file {path}{named_by} is empty: see configs/ for examples")
    if not isinstance(keys, dict):
        raise ConfigError(
            f"config file {path}{named_by} must be a map of keys such as TRAIN:, "
            f"not a {type(keys).__name__}"
        )
    return keys
