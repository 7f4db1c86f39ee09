"""Retired and renamed keys, and the errors for keys that do not exist."""

from __future__ import annotations

import difflib
import logging

from detectron_ext.config import dotted
from detectron_ext.config.keys import KEYS
from detectron_ext.errors import ConfigError

_LOG = logging.getLogger(__name__)

# Keys that have had no effect since Detectron was released. Old files still contain them.
DEPRECATED_KEYS = frozenset(
    [
        "FINAL_MSG",
        "MODEL.DILATION",
        "ROOT_GPU_ID",
        "RPN.ON",
        "TEST.NUM_TEST_IMAGES",
        "TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED",
        "TRAIN.DROPOUT",
        "USE_GPU_NMS",
    ]
)

# Old name -> (new name, how the value has to change, if it does).
RENAMED_KEYS = {
    key.formerly.name: (name, key.formerly.advice) for name, key in KEYS.items() if key.formerly
}


def retired(name: str, source: str) -> bool:
    """Return whether a key is one that no longer has an effect, and log that it is ignored."""
    if name not in DEPRECATED_KEYS:
        return False
    _LOG.warning("ignoring the deprecated key %s in %s", name, source)
    return True


def dotted_key(name: str, parts: list[str], source: str) -> ConfigError:
    """Return the error for a known key that a file writes with dots, as overrides do."""
    nested = "..."
    for part in reversed(parts):
        nested = f"{part}: {nested}" if nested == "..." else f"{part}: {{{nested}}}"
    return ConfigError(f"key {name} in {source} is written with dots; write it nested: {nested}")


def unknown_key(name: str, source: str, known: dict) -> ConfigError:
    """Return the error for a key that does not exist, naming its successor or the nearest key.

    Args:
        name: the dotted name that was given.
        source: where it was given.
        known: the tree of all keys.
    """
    if name in RENAMED_KEYS:
        new_name, advice = RENAMED_KEYS[name]
        message = f"key {name} in {source} was renamed to {new_name}"
        return ConfigError(f"{message}; {advice}" if advice else f"{message}; use that name")
    nearest = difflib.get_close_matches(name.upper(), list(dotted.names(known)), n=1)
    guess = f"; did you mean {nearest[0]}?" if nearest else "; no known key is close to it"
    return ConfigError(f"unknown key {' '.join(name.split())} in {source}{guess}")
