"""Reading safetensors files: a header in JSON with the place of every tensor, then their bytes."""

from __future__ import annotations

import json
import os
import struct
from typing import BinaryIO

import numpy as np

from detectron_ext.checked_unpickler import RefusedError

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip
_BFLOAT16 = "BF16"  # the upper half of a float32
_LONGEST_HEADER = 100_000_000  # bytes, the limit of the format's own library


def is_safetensors(file: BinaryIO) -> bool:
    """Return whether a file begins like one, and go back to its start."""
    start = file.read(10)
    file.seek(0)
    return start[8:10] == b'{"'


def read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file.

    Returns:
        Name to array. BF16 becomes float32.

    Raises:
        RefusedError: the header is wrong, a tensor lies outside the file, or its type is unknown.
    """
    size = os.fstat(file.fileno()).st_size
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, _LONGEST_HEADER):
        raise RefusedError(f"its header claims {length} bytes")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise RefusedError("its header is not a dictionary")
    header.pop("__metadata__", None)
    start = 8 + length
    ends = [entry["data_offsets"] for entry in header.values()]
    if sum(last - first for first, last in ends) > size:  # tensors that share bytes
        raise RefusedError(f"its {len(ends)} tensors have more bytes than the file")
    return {name: _tensor(file, name, entry, start, size) for name, entry in header.items()}


def _tensor(file: BinaryIO, name: str, entry: dict, start: int, size: int) -> np.ndarray:
    kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind != _BFLOAT16 and kind not in _TYPES:
        raise RefusedError(f"tensor {name} has type {kind}")
    dtype = np.dtype("<u2" if kind == _BFLOAT16 else _TYPES[kind])
    if any(type(n) is not int or n < 0 for n in (*shape, first, last)):
        raise RefusedError(f"tensor {name} has shape {shape} and bytes {first} to {last}")
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if last - first != expected or start + last > size:
        raise RefusedError(f"tensor {name} of shape {shape} has bytes {first} to {last}")
    file.seek(start + first)
    numbers = np.frombuffer(file.read(expected), dtype).reshape(shape)
    if kind == _BFLOAT16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers
