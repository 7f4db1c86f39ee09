"""The user's own data sets, in DATASETS_EXTRA and in the file of DETECTRON_EXT_DATASETS alike."""

from __future__ import annotations

from typing import Any, Mapping

from detectron_ext.config.values import coerce
from detectron_ext.errors import ConfigError

PATHS = ("im_dir", "ann_fn")
_KEYS = (*PATHS, "im_prefix")


def entry_texts(entry: Mapping[str, Any], name: str, source: str) -> dict[str, str]:
    """Return what is given for a data set as text; a key with nothing behind it is "".

    Args:
        entry: any subset of im_dir, ann_fn and im_prefix.
        name: the entry, and
        source: where it was given, for messages.

    Raises:
        ConfigError: a key that no data set has, or a value that is no text.
    """
    texts = {}
    for key, value in entry.items():
        label = f"{name}.{key} in {source}"
        if key not in _KEYS:
            raise ConfigError(
                f"unknown key {label}; a data set takes im_dir and ann_fn, and im_prefix if needed"
            )
        texts[key] = coerce(value, "", label)
    return texts
