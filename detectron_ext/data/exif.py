"""Photographs whose EXIF tag turns them, where nothing tells which way their boxes were made.

OpenCV turns a photograph as its EXIF tag says, as most viewers do. If only the pixels as stored
have the annotated size, they are taken (see `transforms.decode_as_annotated`). But the tag may keep
the size: by half a turn, by mirroring, or in a square. Then the boxes fit both ways.
"""

from __future__ import annotations

import logging
import struct
import threading
from typing import Callable, Iterable, NamedTuple

import numpy as np

from detectron_ext.input_files import open_input

_LOG = logging.getLogger(__name__)

# OpenCV turns files of these types. Their tag stands near the beginning, after one of the marks.
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_MARKS = {_JPEG: b"Exif\0\0", _PNG: b"eXIf"}
_HEAD = 1 << 16
_ORIENTATION = 0x0112
_KEEP_SIZE, _TURN = (2, 3, 4), (5, 6, 7, 8)


class AnnotatedFile(NamedTuple):
    """An image file of a data set.

    Attributes:
        path: the file.
        height, width: annotated size in pixels.
    """

    path: str
    height: int
    width: int


_lock = threading.Lock()
_files: dict[str, Callable[[], list[AnnotatedFile]]] = {}
_said: set[str] = set()


def remember_files(dataset: str, files: Callable[[], list[AnnotatedFile]]) -> None:
    """Remember the files of a data set, so that a warning can count those that fit both ways.

    Args:
        dataset: name of the data set.
        files: returns its files; it is called for the warning alone.
    """
    with _lock:
        _files[dataset] = files


def warn_if_either_way(encoded: np.ndarray, size: tuple[int, int], dataset: str) -> None:
    """Warn once for a data set if the boxes of one of its photographs fit both ways.

    The first such photograph makes the beginnings of all files be read, to count them. Loader
    threads may call this at the same time.

    Args:
        encoded: (B,) uint8, the bytes of the file.
        size: annotated height and width in pixels; the turned image has it.
        dataset: name of the data set. Its files were given to :func:`remember_files`; otherwise
            nothing is said.
    """
    if dataset in _said or not fits_either_way(encoded[:_HEAD].tobytes(), size):
        return
    with _lock:
        if dataset in _said or dataset not in _files:
            return
        _said.add(dataset)
        files = _files.pop(dataset)()
    _LOG.warning("%s", either_way_message(dataset, files_that_fit_either_way(files), len(files)))


def warn_no_more(dataset: str) -> None:
    """Keep :func:`warn_if_either_way` from telling again what was told in another way."""
    with _lock:
        _said.add(dataset)


def either_way_message(dataset: str, found: list[AnnotatedFile], total: int) -> str:
    """Return the warning about the photographs of a data set that fit both ways.

    Args:
        dataset: name of the data set.
        found: these photographs, at least one.
        total: number of all images of the data set.
    """
    return (
        f"data set {dataset}: the EXIF tag turns {len(found)} of {total} images and keeps their "
        f"annotated size, first {found[0].path}: their boxes are taken to be made on the turned "
        "images, as viewers show them"
    )


def files_that_fit_either_way(files: Iterable[AnnotatedFile]) -> list[AnnotatedFile]:
    """Return the files whose EXIF tag moves their pixels and keeps their annotated size.

    Only the beginnings of the files are read. A file that cannot be read is left out.
    """
    return [file for file in files if fits_either_way(_head(file.path), file[1:])]


def _head(path: str) -> bytes:
    try:
        with open_input(path) as file:
            return file.read(_HEAD)
    except (OSError, ValueError):
        return b""


def fits_either_way(head: bytes, size: tuple[int, int]) -> bool:
    """Return whether the EXIF tag of an image moves its pixels and keeps its size.

    Args:
        head: the beginning of an image file.
        size: height and width of the turned image.
    """
    turn = orientation(head)
    return turn in _KEEP_SIZE or (turn in _TURN and size[0] == size[1])


def orientation(head: bytes) -> int:
    """Return the orientation from 1 to 8 that OpenCV applies to an image.

    Args:
        head: the beginning of the file. A file without a tag, with a damaged one, or of a type that
            OpenCV does not turn has orientation 1.
    """
    mark = next((mark for magic, mark in _MARKS.items() if head.startswith(magic)), None)
    position = -1 if mark is None else head.find(mark)
    if mark is None or position < 0:
        return 1
    try:
        found = _orientation(head[position + len(mark) :])
    except struct.error:  # it ends too early
        return 1
    return found if 1 <= found <= 8 else 1


def _orientation(tiff: bytes) -> int:
    """Return the value of the first orientation tag of a TIFF block; 1 without one."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for index in range(count):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
        if tag == _ORIENTATION:
            return value
    return 1
