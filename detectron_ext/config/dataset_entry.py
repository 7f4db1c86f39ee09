"""The user's own data sets: entries of DATASETS_EXTRA, or of the file that the environment variable
DETECTRON_EXT_DATASETS names.
"""

from __future__ import annotations

from typing import Any, Mapping

from detectron_ext.config.values import coerce
from detectron_ext.errors import ConfigError, shown

# The paths that each data set needs.
PATHS = ("im_dir", "ann_fn")
# Field of an entry -> its meaning; Markdown.
FIELDS = {
    "im_dir": "The folder of the images.",
    "ann_fn": "The annotation file, in COCO's JSON format unless `format` says otherwise.",
    "im_prefix": "Text before each file name of the annotation file, such as `COCO_test2015_`. "
    "Default: none.",
    "format": "The format of the annotations: a name in `detectron_ext.data.formats.FORMATS`. "
    "Default: `coco`.",
}
DEFAULT_FORMAT = "coco"
FORMATS = "detectron_ext.data.formats:FORMATS"


def entry_texts(entry: Mapping[str, Any], name: str, source: str) -> dict[str, str]:
    """Return the fields of an entry as text. A field without a value becomes "".

    Args:
        entry: any subset of FIELDS.
        name: the dotted name of the entry, for messages.
        source: where it was given, for messages.

    Raises:
        ConfigError: an unknown field, or a value that is not text.
    """
    texts = {}
    for key, value in entry.items():
        label = f"{name}.{key} in {source}"
        if key not in FIELDS:
            raise ConfigError(
                f"unknown key {label}; a data set takes im_dir and ann_fn, and im_prefix and "
                "format if needed"
            )
        texts[key] = coerce(value, "", label)
    return texts


def check_folder_name(name: str, source: str) -> None:
    """Check that a data set's name can be the name of the folder that its results are written to.

    Args:
        name: the data set's name.
        source: where it was given, for messages.

    Raises:
        ConfigError: the name is empty, "." or "..", or contains "/" or the character 0.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ConfigError(
            f"{source}: {shown(name)} cannot name a data set: its results are written to a folder "
            "of this name; choose a name without '/'"
        )
