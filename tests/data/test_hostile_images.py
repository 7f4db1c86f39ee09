"""Image files that are damaged on purpose leave no file behind and take no memory."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from detectron_ext.data import transforms
from detectron_ext.data.image_decoding import decode
from detectron_ext.environment import MAX_IMAGE_PIXELS
from detectron_ext.errors import DatasetError


def _encoded(kind):
    image = np.random.RandomState(0).rand(20, 30, 3).astype(np.float32)
    if kind not in (".hdr", ".pfm"):
        image = (255 * image).astype(np.uint8)
    return cv2.imencode(kind, image)[1]


def _png(width, height):
    """A PNG file with a header for these sides and the data of ten rows."""
    rows = zlib.compress(bytes(10 * (3 * width + 1)))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = []
    for name, content in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        parts.append(struct.pack(">I", len(content)) + name + content + checksum)
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + b"".join(parts), np.uint8)


@pytest.mark.parametrize("kind", [".hdr", ".pfm", ".ras", ".bmp", ".ppm", ".png", ".jpg", ".tiff"])
def test_a_damaged_image_leaves_no_file(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENCV_TEMP_PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    whole, rng = _encoded(kind), np.random.RandomState(1)
    for _ in range(300):
        damaged = whole.copy()
        damaged[rng.randint(min(len(damaged), 60))] = rng.randint(256)
        try:
            decode(damaged[: rng.randint(1, len(damaged) + 1)])
            decode(damaged)
        except DatasetError as error:
            assert "\n" not in str(error)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("kind", [".hdr", ".pfm", ".ras", ".bmp", ".ppm"])
def test_images_decoded_from_a_file_have_the_same_pixels(kind):
    encoded = _encoded(kind)
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if expected.dtype == np.uint8:
        np.testing.assert_array_equal(decode(encoded), expected)
    else:
        expected = np.clip(np.rint(255 * expected.astype(np.float64)), 0, 255)
        np.testing.assert_array_equal(decode(encoded, deep="scale"), expected)


@pytest.mark.parametrize("sides", [(17_000, 17_000), (30_000, 9_000)])
def test_an_image_of_too_many_pixels_is_refused_before_they_take_memory(sides, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "huge.png"
    path.write_bytes(_png(*sides))
    with pytest.raises(DatasetError, match="claims more pixels than") as caught:
        transforms.read_file(str(path))
    assert str(caught.value).startswith(str(path))
    assert MAX_IMAGE_PIXELS.name in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_the_limit_of_pixels_can_be_set():
    code = (
        "import detectron_ext, numpy, cv2\n"
        "from detectron_ext.data.image_decoding import decode\n"
        "decode(cv2.imencode('.png', numpy.zeros((9, 9, 3), 'u1'))[1])\n"
        "decode(cv2.imencode('.png', numpy.zeros((9, 12, 3), 'u1'))[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, MAX_IMAGE_PIXELS.name: "100"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.stderr.count("claims more pixels than the 100 that are read") == 1, done.stderr
