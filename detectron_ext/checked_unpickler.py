"""An unpickler for files that may be hostile: it runs no code and takes little more than the file.

It is the one of Python's library that is written in Python, with the steps replaced that could call
something, end the process or take memory that the file does not have:

- The C version keeps a table as long as the largest number of a memo. A file of 30 bytes can make
  that gigabytes. The Python version keeps a dictionary.
- A dictionary asks its keys for their hashes. The hash of tuples in tuples overflows the stack.
- A file can say that a text or an array of bytes is longer than the file.
- A call on a text that the file holds once can be repeated many times.
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any, BinaryIO

import numpy as np

from detectron_ext.errors import shown

# Integers of weights files are sizes, ids and the 77 bits of PyTorch's magic number.
_MOST_BITS = 128
# How many times as many bytes as the file has its arrays and texts may have. Python 3 writes bytes
# as text into protocols that Python 2 reads; text, bytes and array then take three times as much.
MOST_EXPANSION = 4
_ALWAYS_ALLOWED = 1 << 20
_PLAIN_KEYS = (str, bytes, int, float, type(None), np.generic)
_SMALL = 1 << 12


class RefusedError(pickle.UnpicklingError):
    """The pickle wants something that is not needed for arrays of numbers and text."""


class _File:
    """A file whose reads are not longer than the file.

    Without this, Python takes the memory that is asked for before it reads.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > _SMALL:
            count = min(count, max(0, self._size - self._file.tell()))
        return self._file.read(count)

    def readinto(self, buffer: bytearray) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


# Its stubs know only the version in C.
_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class CheckedUnpickler(_PythonUnpickler):
    """Reads one pickle.

    Args:
        file: a binary file, at the beginning of the pickle.
        names: (module, name) to what stands for it; a pickle that has another name is refused.
        encoding: of the texts that Python 2 wrote.
        size: number of bytes of the file; None asks the system.

    Raises:
        RefusedError: ``load`` found something that is not needed.
        Exception: the pickle is damaged. Many types are possible.
    """

    # Classes whose instances a pickle may make.
    creatable: tuple = ()
    # Classes whose instances take a state.
    with_state: tuple = ()

    def __init__(
        self, file: BinaryIO, names: dict, encoding: str = "latin1", size: int | None = None
    ) -> None:
        size = os.fstat(file.fileno()).st_size if size is None else size
        super().__init__(_File(file, size), encoding=encoding)
        self._names = names
        self._left = MOST_EXPANSION * size + _ALWAYS_ALLOWED

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise RefusedError(f"it names {module}.{name}"[:200]) from None

    def _spend(self, value: Any) -> None:
        """Count the bytes of a value that a call has made."""
        if isinstance(value, np.ndarray):
            self._left -= value.nbytes
        elif isinstance(value, (bytes, bytearray, str)):
            self._left -= len(value)
        elif isinstance(value, (tuple, list, set, dict)):
            self._left -= 8 * len(value)
        if self._left < 0:
            raise RefusedError(f"it expands to more than {MOST_EXPANSION} times its size")

    dispatch: dict = dict(_PythonUnpickler.dispatch)
    for _code in (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[_code[0]]

    def load_reduce(self) -> None:
        super().load_reduce()
        self._spend(self.stack[-1])

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, self.with_state):
            target.__setstate__(state)
            self._spend(target)
        elif not isinstance(target, dict):  # the attributes of PyTorch's dictionaries are not used
            raise RefusedError(f"it gives a state to a {type(target).__name__}")

    dispatch[pickle.BUILD[0]] = load_build

    def load_newobj(self) -> None:
        if self.stack[-2] not in self.creatable:
            raise RefusedError(f"it makes a {shown(self.stack[-2])}")
        super().load_newobj()

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        if self.stack[-3] not in self.creatable:
            raise RefusedError(f"it makes a {shown(self.stack[-3])}")
        super().load_newobj_ex()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_setitem(self) -> None:
        if isinstance(self.stack[-3], dict):
            check_key(self.stack[-2])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        if isinstance(self.metastack[-1][-1], dict):
            check_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def load_additems(self) -> None:
        check_keys(self.stack)
        super().load_additems()

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        check_keys(self.stack)
        super().load_frozenset()

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    if hasattr(pickle, "BYTEARRAY8"):  # Python 3.8

        def load_bytearray8(self) -> None:
            # The library's makes the whole array before it reads.
            (length,) = struct.unpack("<Q", self.read(8))
            data = self.read(length)
            if len(data) < length:
                raise EOFError(f"it ends within an array of {length} bytes")
            self.append(bytearray(data))

        dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def _check_number(self) -> None:
        number = self.stack[-1]
        if isinstance(number, int) and number.bit_length() > _MOST_BITS:
            raise RefusedError(f"it holds an integer of {number.bit_length()} bits")

    def load_int(self) -> None:
        super().load_int()
        self._check_number()

    dispatch[pickle.INT[0]] = load_int

    def load_long(self) -> None:
        super().load_long()
        self._check_number()

    dispatch[pickle.LONG[0]] = load_long

    def load_long1(self) -> None:
        super().load_long1()
        self._check_number()

    dispatch[pickle.LONG1[0]] = load_long1

    def load_long4(self) -> None:
        super().load_long4()
        self._check_number()

    dispatch[pickle.LONG4[0]] = load_long4


def check_key(key: Any) -> None:
    """Refuse a key of a dictionary that is neither plain nor a tuple of plain values.

    Raises:
        RefusedError: the key is something else.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, _PLAIN_KEYS) for part in parts):
        raise RefusedError(f"it has a {type(key).__name__} of other things as a key")


def check_keys(keys: Any) -> None:
    """Refuse keys as :func:`check_key` does."""
    for key in keys:
        check_key(key)
