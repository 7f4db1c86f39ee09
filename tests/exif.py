"""Photographs that a camera took turned."""

from __future__ import annotations

import cv2
import numpy as np

# A little-endian EXIF block whose only entry is orientation 6: turn clockwise to view.
_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def encode_turned_jpeg(stored: np.ndarray) -> bytes:
    """A JPEG file of these pixels, (height, width, 3) uint8 BGR, that is to be turned clockwise."""
    data = cv2.imencode(".jpg", stored)[1].tobytes()
    return data[:2] + b"\xff\xe1" + (len(_EXIF) + 2).to_bytes(2, "big") + _EXIF + data[2:]
