"""Photographs that a camera took turned."""

from __future__ import annotations

import struct

import cv2
import numpy as np


def exif_block(orientation: int, order: str = "little") -> bytes:
    """A TIFF block whose only entry is the orientation, in "little" or "big" byte order."""
    start, sign = (b"II", "<") if order == "little" else (b"MM", ">")
    # 42, offset of the directory; one entry: tag, type "short", one value, the value, padding; end
    return start + struct.pack(sign + "HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def encode_turned_jpeg(stored: np.ndarray, orientation: int = 6, order: str = "little") -> bytes:
    """A JPEG file of pixels (height, width, 3) uint8 BGR with an EXIF orientation.

    1 is as stored, 2 mirrored, 3 half a turn, 4 mirrored and half a turn, 6 a turn clockwise, 8
    counter-clockwise; 5 and 7 are 6 and 8 mirrored.
    """
    data = cv2.imencode(".jpg", stored)[1].tobytes()
    block = b"Exif\0\0" + exif_block(orientation, order)
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
