"""From the bytes of an image file to pixels of 8 bits, without guesses.

OpenCV makes 8 bits of every file that it reads. It keeps the upper 8 of 16 bits and clips
floating-point numbers, so that most such images become black or white. It also returns what it
could read of a truncated JPEG, with the rest grey. Both are errors here.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import tempfile
import threading
from typing import BinaryIO

import cv2
import numpy as np

from detectron_ext import environment
from detectron_ext.errors import DatasetError

_LOG = logging.getLogger(__name__)

DEEP_KEY = "LIBRA.DATA.DEEP_IMAGES"
REFUSE, STRETCH, SCALE = DEEP_MODES = ("refuse", "stretch", "scale")

_NOT_AN_IMAGE = "is not an image that OpenCV can decode"
_TRUNCATED = "is truncated: the file ends before its image does"
_TOO_MANY_PIXELS = (
    f"claims more pixels than the {environment.MAX_IMAGE_PIXELS.value} that are read: make it "
    f"smaller or cut it, or raise the environment variable {environment.MAX_IMAGE_PIXELS.name}"
)
_JPEG = b"\xff\xd8"
# How files of JPEG, PNG, TIFF and WebP begin.
_DECODED_IN_MEMORY = (_JPEG, b"\x89PNG", b"II*\0", b"MM\0*", b"RIFF")
# A byte 0xff in JPEG's compressed data is followed by 0, by a restart marker or by another 0xff.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE, _WITHOUT_LENGTH = 0xD9, (0x01, 0xD8)
_PNM = re.compile(rb"P[2356](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)")
_PAM = re.compile(rb"P7\n(?:[^\n]*\n)*?MAXVAL\s+(\d+)")

_said_stretched = threading.Lock()


def decode(encoded: np.ndarray, flags: int = cv2.IMREAD_COLOR, deep: str = REFUSE) -> np.ndarray:
    """Decode the bytes (B,) uint8 of an image file.

    Grey becomes three equal channels, a palette its colours, CMYK becomes BGR. Alpha is left out;
    OpenCV multiplies the colours of a TIFF by an unassociated alpha.

    Args:
        encoded: the bytes.
        flags: OpenCV's reading flags.
        deep: what an image of more than 8 bits a channel becomes (LIBRA.DATA.DEEP_IMAGES).

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        DatasetError: the message tells, after the name of a file, why it has no pixels: OpenCV
            cannot decode it or it has more pixels than OpenCV allows, it is truncated, or it has
            more than 8 bits a channel and is to be refused.
    """
    image = _decoded(encoded, flags | cv2.IMREAD_ANYDEPTH)
    if image is None:  # OpenCV makes no colours of floating-point and 32-bit grey
        keep = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
        image = _decoded(encoded, keep | flags & cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DatasetError(_NOT_AN_IMAGE)
    # Of the types that OpenCV reads, it gives an incomplete image of JPEG alone.
    if encoded[:2].tobytes() == _JPEG and not _jpeg_is_complete(encoded.tobytes()):
        raise DatasetError(_TRUNCATED)
    if image.dtype != np.uint8:
        image = _to_8_bits(image, deep)
    elif encoded[0] == ord("P"):
        image = _with_full_range(image, encoded)
    return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def _decoded(encoded: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        if encoded[:12].tobytes().startswith(_DECODED_IN_MEMORY):
            return cv2.imdecode(encoded, flags)
        return _decoded_from_file(encoded, flags) if len(encoded) else None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise DatasetError(_TOO_MANY_PIXELS) from None
        return None


def _decoded_from_file(encoded: np.ndarray, flags: int) -> np.ndarray | None:
    """Decode an image of a type that OpenCV may not read from memory.

    `cv2.imdecode` would write it to a file, which stays if the image is damaged. This file has no
    name, and so it disappears in any case.
    """
    try:
        with _file_without_name() as file:
            file.write(encoded.data)
            file.flush()
            path = f"/proc/self/fd/{file.fileno()}"
            return cv2.imread(path, flags) if cv2.haveImageReader(path) else None
    except OSError as error:
        raise DatasetError(f"cannot be decoded: no temporary file: {error.strerror}") from error


def _file_without_name() -> BinaryIO:
    if hasattr(os, "memfd_create"):  # Python 3.8
        return os.fdopen(os.memfd_create("image", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile()


def _to_8_bits(image: np.ndarray, deep: str) -> np.ndarray:
    """Convert pixels of another type as LIBRA.DATA.DEEP_IMAGES says.

    Args:
        image: (height, width) or (height, width, 3), any type but uint8.
        deep: one of DEEP_MODES.
    """
    finite = np.isfinite(image)
    low, high = (
        (float(image[finite].min()), float(image[finite].max())) if finite.any() else (0.0, 0.0)
    )
    described = f"pixels of type {image.dtype} from {low:g} to {high:g}"
    if deep == REFUSE:
        raise DatasetError(
            f"has {described}, not of 8 bits: set {DEEP_KEY} to {STRETCH} (the least value of each "
            f"image becomes 0, the greatest 255) or {SCALE} (the range of the type, or 0 to 1 for "
            "floating-point numbers, becomes 0 to 255)"
        )
    if deep == SCALE:
        whole = np.issubdtype(image.dtype, np.integer)
        low, high = (0.0, float(np.iinfo(image.dtype).max)) if whole else (0.0, 1.0)
    if _said_stretched.acquire(blocking=False):  # once in a process: all images are treated alike
        _LOG.warning(
            "%s %s: an image has %s; %g to %g becomes 0 to 255 in it, and others are treated alike",
            DEEP_KEY, deep, described, low, high,
        )  # fmt: skip
    values = np.where(finite, image, low).astype(np.float64)
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros(image.shape)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _with_full_range(image: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Apply the greatest value that a PGM, PPM or PAM file states, which OpenCV ignores."""
    head = encoded[:4096].tobytes()
    stated = _PNM.match(head) or _PAM.match(head)
    greatest = int(stated.group(1)) if stated else 255
    if not 1 <= greatest < 255 or image.max(initial=0) > greatest:
        return image
    return np.rint(image * (255.0 / greatest)).astype(np.uint8)


def _jpeg_is_complete(data: bytes) -> bool:
    """Return whether the end-of-image marker follows the compressed data of a JPEG file.

    Segments are skipped by their lengths, because a thumbnail in them has such a marker, too.
    """
    position = 2
    while True:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            return False
        marker = data[found.start() + 1]
        if marker == _END_OF_IMAGE:
            return True
        position = found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if position + 2 > len(data):
            return False
        position += struct.unpack_from(">H", data, position)[0]
