"""Pickles of arrays, such as Detectron writes, read without trusting them.

A pickle can name any function to be called; this reader knows numpy arrays and plain containers
and refuses the rest before anything is called. Arrays are rebuilt from their type's name, their
shape and their bytes: what else a pickle says of them could make numpy take bytes for objects.

After the pickle a file has a line with the SHA-256 of the bytes before it. Programs that read the
pickle do not notice it. Files of Detectron and of earlier versions have none.
"""

from __future__ import annotations

import codecs
import collections
import hashlib
import os
import pickle
import re
from typing import Any, BinaryIO

import numpy as np

from detectron_ext.checked_unpickler import CheckedUnpickler, RefusedError, check_keys
from detectron_ext.errors import UserError, shown
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_PICKLE_BYTES
from detectron_ext.output_files import replaced_file

_LINE = "\nsha256 {}\n"
_LINE_LENGTH = len(_LINE.format("0" * 64))
_CHECKSUM = re.compile(rb"\nsha256 ([0-9a-f]{64})\n")
_PART = 1 << 20  # bytes that are read at a time for the checksum
# Rows of an empty array, such as the boxes (N, 0) of nothing.
_MOST_EMPTY = 1 << 20


class _Type:
    """A number type under construction. The pickle's other words on it are not passed to numpy,
    which believes them."""

    def __init__(self, name, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[biufcSU]\d+", name):
            raise RefusedError(f"it holds an array of type {name}"[:100])
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
        check_shape(shape, kind.dtype)
        super().__setstate__((1, shape, kind.dtype, by_columns, bytes(data)))

    def __reduce_ex__(self, protocol):
        # Whoever saves it again writes a plain array.
        return np.asarray(self).__reduce_ex__(protocol)


def check_shape(shape, dtype):
    """Refuse an array without bytes that has many elements or rows nevertheless.

    Raises:
        RefusedError: it is one.
    """
    if not dtype.itemsize:
        raise RefusedError("it holds an array of elements without bytes")
    sides = [side for side in shape if side]
    if len(sides) < len(shape) and np.prod(sides, dtype=float) > _MOST_EMPTY:
        raise RefusedError(f"it holds an empty array of shape {shown(shape)}")


def _reconstruct(*_):
    return _Array((0,), dtype=np.int8)


def _scalar(kind, data):
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype, count=1)[0]


def _from_buffer(data, kind, shape, order):
    if not isinstance(data, (bytes, bytearray)):  # bytearray(n) has n bytes
        raise RefusedError("it holds an array that is not bytes")
    check_shape(shape, kind.dtype)
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


def _ordered_dict(items=()):
    items = list(items)
    check_keys(key for key, _ in items)
    return collections.OrderedDict(items)


# What a pickle of arrays may name, and what it gets: under numpy 1's and numpy 2's names.
_CORES = ("numpy.core", "numpy._core")
ALLOWED = {
    ("numpy", "ndarray"): "mentioned only",
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode_latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _ordered_dict,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}


class ArrayUnpickler(CheckedUnpickler):
    """Reads a pickle of arrays and plain containers."""

    with_state = (_Type, _Array)


def read_pickle(path: str, kind: str, error_class: type[UserError]) -> Any:
    """Read a pickle of arrays and plain containers, Python 2's included.

    Args:
        path: the file.
        kind: what it holds, for messages: "weights" or "proposals".
        error_class: what is raised.

    Raises:
        error_class: in one line, when the file is missing, truncated, too large, no such pickle, or
            not what was written.
    """
    try:
        with open_input(path) as file:
            end = _checked_end(file)
            content = ArrayUnpickler(file, ALLOWED).load()
            if file.tell() != end:
                raise ValueError("there is something after its end")
            return content
    except OSError as error:
        raise error_class(f"cannot read {kind} {path}: {error.strerror}") from error
    except _OtherBytesError as error:
        raise error_class(
            f"{kind} {path} are damaged: their bytes are not those that were written (the checksum "
            "differs); copy the file again, or use an earlier one"
        ) from error
    except RefusedError as error:
        raise error_class(
            f"refused {kind} {path}: {error}; only arrays of numbers are read"
        ) from error
    except Exception as error:
        raise error_class(f"{kind} {path} are truncated or damaged: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Return the text of an error, which may quote the file, in at most 200 characters."""
    return str(error)[:200]


class _OtherBytesError(Exception):
    """The checksum differs."""


def _checked_end(file: BinaryIO) -> int:
    """Check the size and the checksum of a file, and return where its pickle has to end.

    The file is at its beginning afterwards. It may have no checksum.
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_PICKLE_BYTES:
        raise RefusedError(f"it has {size} bytes, more than the {MAX_PICKLE_BYTES} that are read")
    end = max(0, size - _LINE_LENGTH)
    file.seek(end)
    line = _CHECKSUM.fullmatch(file.read())
    file.seek(0)
    if line is None:
        return size
    digest, left = hashlib.sha256(), end
    while left:
        part = file.read(min(left, _PART))
        if not part:
            break
        digest.update(part)
        left -= len(part)
    if digest.hexdigest().encode() != line.group(1):
        raise _OtherBytesError
    file.seek(0)
    return end


class _Digesting:
    """A file to write to, and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)


def write_pickle(path: str, content: Any) -> None:
    """Write a pickle that Python 2 reads too, and its checksum; it appears whole or not at all.

    Args:
        path: the file; its folder is made if needed.
        content: arrays in plain containers.

    Raises:
        UserError: it cannot be written.
    """
    with replaced_file(path) as file:
        target = _Digesting(file)
        pickle.dump(content, target, protocol=2)
        file.write(_LINE.format(target.digest.hexdigest()).encode())
