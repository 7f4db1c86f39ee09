"""Weights files: Detectron's pickles, read without running code that they may hold.

A file holds ``{"blobs": {name: array}, "cfg": YAML text}``; old files hold only the blobs. Files of
this project also have ``"classes"``, the class names, and ``"data"``, digests and counts of the
training data. Detectron ignores both.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.data.data_record import DataRecord, valid_record
from detectron_ext.engine.foreign_weights import (
    refusal_by_name,
    refuse_foreign_content,
    refuse_foreign_entries,
)
from detectron_ext.errors import WeightsError

_CAFFE2_TYPES = [
    np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "?")
]


class Weights(NamedTuple):
    """The content of a weights file.

    Attributes:
        blobs: blob name without scope to numeric array.
        cfg: YAML text of the configuration the weights were trained with; None if not stored.
        classes: class names, background first; None if not stored.
        data: digests and counts of the training data; None if not stored.
    """

    blobs: dict
    cfg: str | None
    classes: list | None
    data: DataRecord | None = None


def read_weights(path: str) -> Weights:
    """Read a weights file.

    Args:
        path: a ``.pkl`` of this package or of Detectron (Python 2 pickles included).

    Raises:
        WeightsError: the file is missing or truncated, is of another program (the message names the
            converter), is not a pickle of arrays, or holds anything other than numeric arrays of
            types that Caffe2 has.
    """
    content = _read_content(path)
    blobs = content.get("blobs", content)
    if not isinstance(blobs, dict):
        raise WeightsError(f"weights {path}: its 'blobs' are not a dictionary")
    extras = content if "blobs" in content else {}
    cfg, classes = extras.get("cfg"), extras.get("classes")
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        classes = None
    cfg = cfg if isinstance(cfg, str) else None
    return Weights(_checked_blobs(path, blobs), cfg, classes, valid_record(extras.get("data")))


def _read_content(path: str) -> dict:
    refuse_foreign_content(path)
    try:
        content = read_pickle(path, "weights", WeightsError)
    except WeightsError as error:
        if not os.path.isfile(path):
            raise
        raise refusal_by_name(path) or error from error
    if not isinstance(content, dict):
        raise WeightsError(f"weights {path} hold a {type(content).__name__} instead of named blobs")
    refuse_foreign_entries(path, content)
    return content


def _checked_blobs(path: str, blobs: dict) -> dict:
    checked = {}
    for name, value in blobs.items():
        if value is None or (name == "cfg" and isinstance(value, str)):
            continue
        if not isinstance(name, str) or not isinstance(value, (np.ndarray, np.generic)):
            raise WeightsError(f"weights {path}: {name!r} is not a named array")
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise WeightsError(f"weights {path}: blob {name} has type {array.dtype}, not numbers")
        native = array.dtype.newbyteorder("=")
        if native not in _CAFFE2_TYPES:
            raise WeightsError(
                f"weights {path}: blob {name} has type {array.dtype}, which Caffe2 does not have"
            )
        checked[name] = array.astype(native, copy=False)
    return checked


def write_weights(path: str, weights: Weights) -> None:
    """Write a weights file that Detectron can read; it appears whole or not at all.

    Fields that are None are left out, because Detectron expects ``cfg`` to be text if it is there.

    Raises:
        UserError: the file cannot be written.
    """
    content = {key: value for key, value in weights._asdict().items() if value is not None}
    write_pickle(path, content)
