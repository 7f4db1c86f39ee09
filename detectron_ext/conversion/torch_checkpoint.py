"""Reading PyTorch checkpoints without PyTorch, and without running code in them.

A checkpoint is a pickle whose tensors refer to storages (arrays of numbers). Since PyTorch 1.6 a
checkpoint is a zip archive that contains the pickle and the storages. In older checkpoints the
storages follow the pickle in the same file. The pickle may hold tensors, numbers, text, plain
containers and numpy arrays. Log buffers of mmdetection's training loop are ignored. A checkpoint
that names anything else is refused before any function that it names is called.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from typing import Any, BinaryIO, Mapping, NamedTuple

import numpy as np

from detectron_ext.array_pickle import ALLOWED, ArrayUnpickler, check_shape
from detectron_ext.checked_unpickler import (
    MOST_EXPANSION,
    CheckedUnpickler,
    RefusedError,
    check_keys,
)
from detectron_ext.conversion.safetensors_file import is_safetensors, read_safetensors
from detectron_ext.errors import WeightsError, shown
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_PICKLE_BYTES

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_TAR_MAGIC = b"ustar"
_NODES = ("state_dict", "model")  # under which programs store the tensors
# Bytes of the pickle in an archive, unpacked. It has names and shapes; the numbers lie beside it.
_MOST_TEXT = 64 << 20
_STORAGE_TYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


class _StorageType(NamedTuple):
    """Stands for a storage class of torch, which the pickle names but does not call."""

    dtype: np.dtype


class _Storage:
    """The numbers of one or more tensors. In the old format they are read after the pickle."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype, self.size = dtype, size
        self.numbers: np.ndarray | None = None

    def fill(self, data: bytes) -> None:
        if len(data) != self.size * self.dtype.itemsize:
            raise RefusedError(f"a storage has {len(data)} bytes for {self.size} {self.dtype}")
        self.numbers = np.frombuffer(data, self.dtype)


class _Tensor(NamedTuple):
    """A tensor as a view of a storage. Offset and strides are in elements."""

    storage: Any
    offset: int
    shape: tuple
    strides: tuple

    def num_elements(self) -> int:
        """Return the number of elements, after checking that they are in the storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(n) is not int or n < 0 for n in numbers) or (
            len(self.shape) != len(self.strides)
        ):
            raise RefusedError(
                f"a tensor has shape {shown(self.shape)} and strides {shown(self.strides)}"
            )
        if 0 in self.shape:
            return 0
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        count = int(np.prod(self.shape, dtype=float))
        if last >= self.storage.size or count > self.storage.size:
            raise RefusedError("a tensor reaches past its storage")
        return count

    def array(self) -> np.ndarray:
        """Return a copy of the elements."""
        if not self.num_elements():
            check_shape(self.shape, self.storage.dtype)
            return np.zeros(self.shape, self.storage.dtype)
        itemsize = self.storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.storage.numbers[self.offset :],
            self.shape,
            [step * itemsize for step in self.strides],
            writeable=False,
        )
        return view.copy()


class _Inert:
    """Replaces an object of a training loop. It ignores all data that are written to it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def _ignore(self, *_):
        pass

    # The classes of some of these objects are derived from dict or list.
    __setstate__ = __setitem__ = append = extend = _ignore


def _inert_attribute(owner, name):
    if owner is not _Inert:
        raise RefusedError(f"it asks for attribute {name!r}")
    return _Inert


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, _Storage):
        raise RefusedError("a tensor has no storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_):
    return tensor


def _checked_set(items=()):
    items = list(items)
    check_keys(items)
    return set(items)


_TORCH = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Inert,
    **{("torch", name): _StorageType(np.dtype(kind)) for name, kind in _STORAGE_TYPES.items()},
    **{(module, "getattr"): _inert_attribute for module in ("builtins", "__builtin__")},
    **{(module, "set"): _checked_set for module in ("builtins", "__builtin__")},
}
_INERT_PACKAGES = ("mmengine", "mmcv", "mmdet")


class _CheckpointUnpickler(CheckedUnpickler):
    """Unpickler that gets each storage from the function ``make_storage`` (dtype, key, size)."""

    creatable = (_Inert,)
    with_state = (*ArrayUnpickler.with_state, _Inert)

    def __init__(self, file, make_storage, size=None):
        super().__init__(file, {**ALLOWED, **_TORCH}, encoding="utf-8", size=size)
        self._make_storage = make_storage

    def find_class(self, module, name):
        if module.split(".")[0] in _INERT_PACKAGES:
            return _Inert
        return super().find_class(module, name)

    def persistent_load(self, identifier):
        kind, storage_type, key, _, size, *view = identifier
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise RefusedError(f"it names an object of kind {shown(kind)}, {shown(storage_type)}")
        if type(size) is not int or size < 0 or any(view):
            raise RefusedError(f"it names a storage of size {shown(size)}")
        return self._make_storage(storage_type.dtype, str(key), size)


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        tensors: parameter name to numpy array.
        meta: meta data about the training; may be empty.
    """

    tensors: dict
    meta: dict


def read_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint of PyTorch.

    Args:
        path: the file, in the zip format or the older one, or in that of safetensors. Its content
            is ``{"state_dict": {name: tensor}, "meta": ...}``, ``{"model": {name: tensor}}`` or
            only ``{name: tensor}``.

    Raises:
        WeightsError: the file is missing, truncated or not a checkpoint, or it holds something
            other than tensors and plain data.
    """
    try:
        with open_input(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_PICKLE_BYTES:
                raise RefusedError(f"it has {size} bytes, more than {MAX_PICKLE_BYTES}")
            if is_safetensors(file):
                return Checkpoint(read_safetensors(file), {})
            content = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        if not isinstance(content, dict):
            raise RefusedError(f"it holds a {type(content).__name__}, not a dictionary")
        key = next((key for key in _NODES if key in content), None)
        named = content if key is None else content[key]
        if not isinstance(named, dict):
            raise RefusedError(f"its {key!r} is not a dictionary")
        views = {name: value for name, value in named.items() if isinstance(value, _Tensor)}
        _check_total(views, size)
        tensors = {name: value.array() for name, value in views.items()}
    except OSError as error:
        raise WeightsError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except RefusedError as error:
        raise WeightsError(f"refused checkpoint {path}: {error}; only tensors are read") from error
    except Exception as error:
        raise WeightsError(
            f"checkpoint {path} is truncated or damaged: {str(error)[:200]}"
        ) from error
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise WeightsError(f"checkpoint {path} has no tensors by name")
    meta = content.get("meta")
    return Checkpoint(tensors, meta if isinstance(meta, dict) else {})


def _check_total(views: Mapping[Any, _Tensor], size: int) -> None:
    """Refuse tensors that share so many numbers that their copies do not fit the file's size."""
    total = sum(view.num_elements() * view.storage.dtype.itemsize for view in views.values())
    if total > MOST_EXPANSION * size:
        raise RefusedError(
            f"its {len(views)} tensors take {total} bytes, more than {MOST_EXPANSION} times the "
            "size of the file"
        )


def _read_entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the bytes of a file in an archive that has at most so many, unpacked."""
    entry = archive.getinfo(name)
    if entry.file_size > most:
        raise RefusedError(f"its {name} has {entry.file_size} bytes"[:200])
    return archive.read(entry)


def _read_zip(file: BinaryIO) -> Any:
    whole = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RefusedError(f"it is a zip file with {len(pickles)} data.pkl")
        folder = pickles[0][: -len("data.pkl")]
        order = folder + "byteorder"
        if order in archive.namelist() and _read_entry(archive, order, 16) != b"little":
            raise RefusedError("its numbers are not little-endian")
        storages: dict[str, _Storage] = {}

        def make_storage(dtype, key, size):
            if key not in storages:
                storages[key] = _Storage(dtype, size)
                entry = archive.getinfo(f"{folder}data/{key}")
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise RefusedError("its storages are compressed")
                storages[key].fill(_read_entry(archive, entry.filename, whole))
            return storages[key]

        text = _read_entry(archive, pickles[0], _MOST_TEXT)
        return _CheckpointUnpickler(io.BytesIO(text), make_storage, len(text)).load()


def _read_legacy(file: BinaryIO) -> Any:
    file.seek(0)
    head = file.read(512)
    if head[257:262] == _TAR_MAGIC:
        raise RefusedError("it is a tar file, older than PyTorch 0.2: load and save it once again")
    file.seek(0)
    storages: dict[str, _Storage] = {}

    def make_storage(dtype, key, size):
        return storages.setdefault(key, _Storage(dtype, size))

    def load():
        return _CheckpointUnpickler(file, make_storage).load()

    if load() != _LEGACY_MAGIC:
        raise RefusedError("it does not begin like a checkpoint")
    load()  # the format's version
    system = load()
    if not system.get("little_endian", True):
        raise RefusedError("its numbers are not little-endian")
    content = load()
    for key in load():
        (size,) = struct.unpack("<q", file.read(8))
        storage = storages[key]
        if size != storage.size:
            raise RefusedError(f"storage {key} has {size} elements, not {storage.size}")
        length = size * storage.dtype.itemsize
        if length > os.fstat(file.fileno()).st_size:
            raise RefusedError(f"storage {key} is longer than the file")
        storage.fill(file.read(length))
    return content
