"""Photographs that a camera took turned."""

from __future__ import annotations

import cv2
import numpy as np

# A little-endian EXIF block whose only entry is the orientation, which follows.
_BEFORE = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"
_AFTER = b"\0\0\0\0\0\0\0"


def encode_turned_jpeg(stored: np.ndarray, orientation: int = 6) -> bytes:
    """A JPEG file of pixels (height, width, 3) uint8 BGR with an EXIF orientation.

    1 is as stored, 2 mirrored, 3 half a turn, 4 mirrored and half a turn, 6 a turn clockwise, 8
    counter-clockwise; 5 and 7 are 6 and 8 mirrored.
    """
    data = cv2.imencode(".jpg", stored)[1].tobytes()
    block = _BEFORE + bytes([orientation]) + _AFTER
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
