"""Weights files: Detectron's pickles, read without trusting them.

A file holds ``{"blobs": {name: array}, "cfg": yaml text}``, or in old files the blobs alone; ours
add ``"classes"``, the names of the classes, which Detectron ignores. A pickle can name any function
to be called; this reader knows numpy arrays and plain containers and refuses the rest before
anything is called.
"""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import tempfile
from typing import NamedTuple

import numpy as np

from detectron_ext.errors import UserError, WeightsError


def _encode_latin1(text, encoding):
    """Python 3 stores bytes in old protocols as text to be encoded; nothing else is needed."""
    if encoding != "latin1":
        raise _RefusedError(f"text encoding {encoding!r}")
    return codecs.encode(text, "latin1")


# What arrays and scalars are rebuilt with, under numpy 1's and numpy 2's names.
_CORES = ("numpy.core", "numpy._core")
_MULTIARRAY = [
    (f"{core}.multiarray", name) for core in _CORES for name in ("_reconstruct", "scalar")
]
_NUMERIC = [(f"{core}.numeric", "_frombuffer") for core in _CORES]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, name): getattr(np.core.multiarray, name) for module, name in _MULTIARRAY},
    **{(module, name): getattr(np.core.numeric, name) for module, name in _NUMERIC},
}


class _RefusedError(pickle.UnpicklingError):
    """The pickle wants something called that is not needed for arrays."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"it names {module}.{name}") from None


class Weights(NamedTuple):
    """What a weights file holds.

    Attributes:
        blobs: unscoped blob name to numeric array.
        cfg: YAML text of the configuration the weights were trained with, if stored.
        classes: class names, background first, if stored.
    """

    blobs: dict
    cfg: str | None
    classes: list | None


def read_weights(path: str) -> Weights:
    """Read a weights file.

    Args:
        path: a ``.pkl`` of this package or of Detectron (Python 2 pickles included).

    Raises:
        WeightsError: when the file is missing, truncated, not a pickle of arrays, or holds
            anything but numeric arrays.
    """
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise WeightsError(f"cannot read weights {path}: {error.strerror}") from error
    except _RefusedError as error:
        raise WeightsError(f"refused weights {path}: {error}; only arrays are read") from error
    except Exception as error:
        raise WeightsError(f"weights {path} are truncated or damaged: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"weights {path} hold a {type(content).__name__}, not named blobs")
    blobs = content.get("blobs", content)
    if not isinstance(blobs, dict):
        raise WeightsError(f"weights {path}: its 'blobs' are not a dictionary")
    extras = content if "blobs" in content else {}
    cfg, classes = extras.get("cfg"), extras.get("classes")
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        classes = None
    return Weights(_checked_blobs(path, blobs), cfg if isinstance(cfg, str) else None, classes)


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
        checked[name] = array
    return checked


def write_weights(path: str, weights: Weights) -> None:
    """Write a weights file that Detectron reads too; it appears whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    except OSError as error:
        raise UserError(f"cannot write to folder {folder}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            pickle.dump(weights._asdict(), file, protocol=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise UserError(f"cannot write weights {path}: {error.strerror}") from error
