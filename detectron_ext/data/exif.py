"""Photographs whose EXIF tag turns them, where nothing tells which way their boxes were made.

OpenCV turns a photograph as its EXIF tag says, as most viewers do. If only the pixels as stored
have the annotated size, they are taken (see `transforms.decode_as_annotated`). But the tag may keep
the size: by half a turn, by mirroring, or in a square. Then the boxes fit both ways.
"""

from __future__ import annotations

import logging
import threading

import cv2
import numpy as np

_LOG = logging.getLogger(__name__)

# A file with an EXIF tag has one of these marks near its beginning.
_MARKS = (b"Exif\0\0", b"eXIf")
_HEAD = 1 << 16

_lock = threading.Lock()
_checked: set[str] = set()
_said: set[str] = set()


def warn_if_either_way(encoded: np.ndarray, size: tuple[int, int], path: str, dataset: str) -> None:
    """Warn about the first turned photograph of a data set whose boxes fit both ways.

    A file is examined once. Loader threads may call this at the same time.

    Args:
        encoded: (B,) uint8, the bytes of the file.
        size: annotated height and width in pixels; the turned image has it.
        path: the file.
        dataset: name of the data set.
    """
    if dataset in _said or path in _checked:
        return
    is_ambiguous = fits_either_way(encoded, size)
    with _lock:
        _checked.add(path)
        if not is_ambiguous or dataset in _said:
            return
        _said.add(dataset)
    _LOG.warning(
        "data set %s: the EXIF tag of image %s turns it, and the annotated size fits both ways: "
        "its boxes, and those of all such images, are taken to be made on the turned image, as "
        "viewers show it",
        dataset,
        path,
    )


def fits_either_way(encoded: np.ndarray, size: tuple[int, int]) -> bool:
    """Return whether the EXIF tag of an image moves its pixels and keeps its size.

    Args:
        encoded: (B,) uint8, the bytes of a file that OpenCV can decode.
        size: height and width of the turned image.
    """
    head = encoded[:_HEAD].tobytes()
    if not any(mark in head for mark in _MARKS):
        return False
    # An eighth of the size is decoded in a fraction of the time, but may look square.
    turned, stored = _both(encoded, cv2.IMREAD_REDUCED_COLOR_8)
    if size[0] != size[1] and turned.shape[0] == turned.shape[1]:
        turned, stored = _both(encoded, cv2.IMREAD_COLOR)
    return turned.shape == stored.shape and not np.array_equal(turned, stored)


def _both(encoded: np.ndarray, flags: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the image turned by its EXIF tag, and as it is stored."""
    stored = cv2.imdecode(encoded, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.imdecode(encoded, flags), stored
