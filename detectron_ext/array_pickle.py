"""Pickles of arrays, such as Detectron writes, read without trusting them.

A pickle can name any function to be called; this reader knows numpy arrays and plain containers
and refuses the rest before anything is called. Arrays are rebuilt from their type's name, their
shape and their bytes: what else a pickle says of them could make numpy take bytes for objects.
"""

from __future__ import annotations

import codecs
import collections
import pickle
import re
from typing import Any

import numpy as np

from detectron_ext.errors import UserError
from detectron_ext.output_files import replaced_file


class RefusedError(pickle.UnpicklingError):
    """The pickle wants something that is not needed for arrays of numbers and text."""


class _Type:
    """A number type under construction. The pickle's other words on it are not passed to numpy,
    which believes them."""

    def __init__(self, name, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[biufcSU]\d+", name):
            raise RefusedError(f"it holds an array of type {name}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        byte_order = state[1]
        if byte_order not in ("<", ">", "|", "="):
            raise RefusedError(f"it holds an array of byte order {byte_order!r}")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray):
    """An array that takes its elements from bytes alone."""

    def __setstate__(self, state):
        _, shape, kind, by_columns, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, (bytes, bytearray)):
            raise RefusedError("it holds an array that is not bytes")
        super().__setstate__((1, shape, kind.dtype, by_columns, bytes(data)))

    def __reduce_ex__(self, protocol):
        # Whoever saves it again writes a plain array.
        return np.asarray(self).__reduce_ex__(protocol)


def _reconstruct(*_):
    return _Array((0,), dtype=np.int8)


def _scalar(kind, data):
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype, count=1)[0]


def _from_buffer(data, kind, shape, order):
    return np.frombuffer(bytearray(data), kind.dtype).reshape(shape, order=order)


def _encode_latin1(text, encoding):
    """Python 3 stores bytes in old protocols as text to be encoded; nothing else is needed."""
    if encoding != "latin1":
        raise RefusedError(f"it encodes text as {encoding!r}")
    return codecs.encode(text, "latin1")


def _no_bytes(*arguments):
    """Python 3 stores empty bytes, those of an empty array, in old protocols as a call of bytes."""
    if arguments:
        raise RefusedError("it calls bytes with arguments")
    return b""


# What a pickle of arrays may name, and what it gets: under numpy 1's and numpy 2's names.
_CORES = ("numpy.core", "numpy._core")
ALLOWED = {
    ("numpy", "ndarray"): "mentioned only",
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode_latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise RefusedError(f"it names {module}.{name}") from None


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
    except RefusedError as error:
        raise error_class(
            f"refused {kind} {path}: {error}; only arrays of numbers are read"
        ) from error
    except Exception as error:
        raise error_class(f"{kind} {path} are truncated or damaged: {error}") from error


def write_pickle(path: str, content: Any) -> None:
    """Write a pickle that Python 2 reads too; it appears whole or not at all.

    Args:
        path: the file; its folder is made if needed.
        content: arrays in plain containers.

    Raises:
        UserError: it cannot be written.
    """
    with replaced_file(path) as file:
        pickle.dump(content, file, protocol=2)
