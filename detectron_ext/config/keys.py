"""Names of keys: retired, renamed, and guesses for those that do not exist."""

from __future__ import annotations

import difflib
import logging
from typing import Any, Iterator

from detectron_ext.errors import ConfigError

_LOG = logging.getLogger(__name__)

# Without effect since before Detectron's release, yet found in old files.
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

_NAMES_ADVICE = "list the names, split at the colons, in a tuple: ('a', 'b'), or ('a',) for one"
_FILES_ADVICE = "list the files, split at the colons, in a tuple: ('a', 'b'), or ('a',) for one"

# Old name -> (new name, how the value has to change, if it does).
RENAMED_KEYS = {
    "MODEL.PS_GRID_SIZE": ("RFCN.PS_GRID_SIZE", ""),
    "MODEL.ROI_HEAD": ("FAST_RCNN.ROI_BOX_HEAD", ""),
    "MRCNN.MASK_HEAD_NAME": ("MRCNN.ROI_MASK_HEAD", ""),
    "TEST.DATASET": ("TEST.DATASETS", _NAMES_ADVICE),
    "TEST.PROPOSAL_FILE": ("TEST.PROPOSAL_FILES", _FILES_ADVICE),
    "TEST.SCALES": ("TEST.SCALE", "give one integer such as 600, not a tuple"),
    "TRAIN.DATASET": ("TRAIN.DATASETS", _NAMES_ADVICE),
    "TRAIN.PROPOSAL_FILE": ("TRAIN.PROPOSAL_FILES", _FILES_ADVICE),
}


def dotted_keys(tree: dict, prefix: str = "") -> Iterator[str]:
    """Yield the full dotted name of every section and key of a nested dict."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys(value, prefix + key + ".")


def retired(name: str, source: str) -> bool:
    """Tell whether a key is one that no longer does anything, and log that it is ignored."""
    if name not in DEPRECATED_KEYS:
        return False
    _LOG.warning("ignoring the deprecated key %s in %s", name, source)
    return True


def dotted_key(name: str, parts: list[str], source: str) -> ConfigError:
    """Return the error for a known key that a map holds by its dotted name, as overrides do."""
    nested = "..."
    for part in reversed(parts):
        nested = f"{part}: {nested}" if nested == "..." else f"{part}: {{{nested}}}"
    return ConfigError(f"key {name} in {source} is given with dots; nest it there: {nested}")


def unknown_key(name: Any, source: str, known: dict) -> ConfigError:
    """Return the error for a key that does not exist, naming its successor or the nearest key."""
    if name in RENAMED_KEYS:
        new_name, advice = RENAMED_KEYS[name]
        message = f"key {name} in {source} was renamed to {new_name}"
        return ConfigError(f"{message}; {advice}" if advice else f"{message}; use that name")
    nearest = difflib.get_close_matches(name.upper(), list(dotted_keys(known)), n=1)
    guess = f"; did you mean {nearest[0]}?" if nearest else "; no known key is close to it"
    return ConfigError(f"unknown key {' '.join(name.split())} in {source}{guess}")
