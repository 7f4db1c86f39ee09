"""The user's own data sets, in DATASETS_EXTRA and in the file of DETECTRON_EXT_DATASETS alike."""

from __future__ import annotations

from typing import Any, Mapping

from detectron_ext.config.values import coerce
from detectron_ext.errors import ConfigError, shown

PATHS = ("im_dir", "ann_fn")
DEFAULT_FORMAT = "coco"
_KEYS = (*PATHS, "im_prefix", "format")


def entry_texts(entry: Mapping[str, Any], name: str, source: str) -> dict[str, str]:
    """Return what is given for a data set as text; a key with nothing behind it is "".

    Args:
        entry: any subset of im_dir, ann_fn, im_prefix and format.
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
                f"unknown key {label}; a data set takes im_dir and ann_fn, and im_prefix and "
                "format if needed"
            )
        texts[key] = coerce(value, "", label)
    return texts


def check_folder_name(name: str, source: str) -> None:
    """Refuse a data set's name that is no folder's: what a run writes lies in a folder so named.

    Raises:
        ConfigError: it is empty, "." or "..", or holds "/" (or the character 0).
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ConfigError(
            f"{source}: {shown(name)} cannot name a data set, whose results lie in a folder of its "
            "name: choose another, without '/'"
        )
