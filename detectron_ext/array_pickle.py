"""Pickles of arrays, such as Detectron writes, read without trusting them.

A pickle can name any function to be called; this reader knows numpy arrays and plain containers
and refuses the rest before anything is called.
"""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import tempfile
from typing import Any

import numpy as np

from detectron_ext.errors import UserError


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


def read_pickle(path: str, kind: str, error_class: type[UserError]) -> Any:
    """Read a pickle of arrays and plain containers, Python 2's included.

    Args:
        path: the file.
        kind: what it holds, for messages: "weights" or "proposals".
        error_class: what is raised.

    Raises:
        error_class: in one line, when the file is missing, truncated, or no such pickle.
    """
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise error_class(f"cannot read {kind} {path}: {error.strerror}") from error
    except _RefusedError as error:
        raise error_class(f"refused {kind} {path}: {error}; only arrays are read") from error
    except Exception as error:
        raise error_class(f"{kind} {path} are truncated or damaged: {error}") from error


def write_pickle(path: str, kind: str, content: Any) -> None:
    """Write a pickle that Python 2 reads too; it appears whole or not at all.

    Args:
        path: the file; its folder is made if needed.
        kind: what it holds, for messages: "weights" or "proposals".

    Raises:
        UserError: it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    except OSError as error:
        raise UserError(f"cannot write to folder {folder}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            pickle.dump(content, file, protocol=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise UserError(f"cannot write {kind} {path}: {error.strerror}") from error
