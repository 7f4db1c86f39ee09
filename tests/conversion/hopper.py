"""The photograph that a network's outputs were recorded on: part of one in matplotlib's package.

Needs OpenCV and numpy alone, so that a Python with another network can import it.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

PATH_IN_MATPLOTLIB = "mpl-data/sample_data/grace_hopper.jpg"
_ROWS, _COLUMNS = slice(16, 592, 2), slice(32, 480, 2)  # 288 and 224: every stride divides them


def read_hopper(path: str) -> tuple:
    """Return every second pixel of a part, (288, 224, 3) uint8 BGR, and its checksum."""
    image = np.ascontiguousarray(cv2.imread(path)[_ROWS, _COLUMNS])
    return image, zlib.crc32(image.tobytes())
