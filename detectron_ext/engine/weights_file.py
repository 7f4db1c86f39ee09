"""Weights files: Detectron's pickles, read without running code that they may hold.

A file holds ``{"blobs": {name: array}, "cfg": YAML text}``; old files hold only the blobs. Files of
this project also have ``"classes"``, the class names, ``"data"``, digests and counts of the
training data, and ``"num_processes"`` if several processes trained them. Detectron ignores these.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.checked_unpickler import MOST_EXPANSION
from detectron_ext.data.data_record import DataRecord, valid_record
from detectron_ext.engine.foreign_weights import (
    refusal_by_name,
    refuse_foreign_content,
    refuse_foreign_entries,
)
from detectron_ext.errors import WeightsError, shown

_CAFFE2_TYPES = [
    np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "?")
]


# No control characters, and no halves of characters, which UTF-8 does not have.
_NAME = re.compile(r"[^\x00-\x1f\ud800-\udfff]{1,1000}")
# Bytes of blobs beyond MOST_EXPANSION, so that small files may name an array several times.
_ALWAYS_ALLOWED = 1 << 20


class Weights(NamedTuple):
    """The content of a weights file.

    Attributes:
        blobs: blob name without scope to numeric array.
        cfg: YAML text of the configuration the weights were trained with; None if not stored.
        classes: class names, background first; None if not stored.
        data: digests and counts of the training data; None if not stored.
        num_processes: number of processes that trained together; None for one, or if not stored.
    """

    blobs: dict
    cfg: str | None
    classes: list | None
    data: DataRecord | None = None
    num_processes: int | None = None


def read_weights(path: str) -> Weights:
    """Read a weights file.

    Args:
        path: a ``.pkl`` of this package or of Detectron (Python 2 pickles included).

    Raises:
        WeightsError: the file is missing, truncated or not what was written, is of another program
            (the message names the converter), is not a pickle of arrays, or holds anything other
            than numeric arrays of types that Caffe2 has.
    """
    content = read_content(path)
    blobs = content.get("blobs", content)
    if not isinstance(blobs, dict):
        raise WeightsError(f"weights {path}: its 'blobs' are not a dictionary")
    extras = content if "blobs" in content else {}
    cfg, classes = extras.get("cfg"), extras.get("classes")
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        classes = None
    cfg = cfg if isinstance(cfg, str) else None
    checked = _checked_blobs(path, blobs)
    _check_size(path, checked)
    processes = extras.get("num_processes")
    processes = processes if type(processes) is int and processes > 1 else None
    return Weights(checked, cfg, classes, valid_record(extras.get("data")), processes)


def _check_size(path: str, blobs: dict) -> None:
    """Refuse a file that names one array many times: Caffe2 would copy it for each name."""
    size = sum(array.nbytes for array in blobs.values())
    most = MOST_EXPANSION * os.path.getsize(path) + _ALWAYS_ALLOWED
    if size > most:
        raise WeightsError(
            f"refused weights {path}: their {len(blobs)} blobs take {size} bytes, more than "
            f"{MOST_EXPANSION} times the size of the file"
        )


def read_content(path: str) -> dict:
    """Read a weights file as it is, unchecked beyond its types.

    Raises:
        WeightsError: as of :func:`read_weights`.
    """
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
    checked: dict = {}
    swapped: dict = {}  # an array of another byte order is copied once, however many names it has
    for name, value in blobs.items():
        if value is None or (name == "cfg" and isinstance(value, str)):
            continue
        if not _is_name(name) or not isinstance(value, (np.ndarray, np.generic)):
            raise WeightsError(f"weights {path}: {shown(name)} is not a named array")
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise WeightsError(f"weights {path}: blob {name} has type {array.dtype}, not numbers")
        native = array.dtype.newbyteorder("=")
        if native not in _CAFFE2_TYPES:
            raise WeightsError(
                f"weights {path}: blob {name} has type {array.dtype}, which Caffe2 does not have"
            )
        if array.dtype != native and id(value) not in swapped:
            swapped[id(value)] = array.astype(native)
        checked[name] = swapped.get(id(value), array)
    return checked


def _is_name(name: Any) -> bool:
    """Return whether a key can be the name of a blob: text that UTF-8 has, without a line break."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def write_weights(path: str, weights: Weights) -> None:
    """Write a weights file that Detectron can read; it appears whole or not at all.

    Fields that are None are left out, because Detectron expects ``cfg`` to be text if it is there.

    Raises:
        UserError: the file cannot be written.
    """
    content = {key: value for key, value in weights._asdict().items() if value is not None}
    write_pickle(path, content)
