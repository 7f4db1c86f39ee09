"""Photographs that are stored turned, where the annotated size does not tell how."""

from __future__ import annotations

import os
import zlib

import cv2
import numpy as np
import pytest
from exif import encode_turned_jpeg, exif_block
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron_ext.commands.pictures import read_picture
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.exif import fits_either_way, orientation
from detectron_ext.data.transforms import read_image

_KEEPS_SIZE = (2, 3, 4)
_TURNS = (5, 6, 7, 8)


def _pixels(height, width):
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 3, : width // 2] = 240
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [(120, 160), (96, 96), (100, 103), (5, 7)])
def test_only_a_tag_that_keeps_the_size_fits_either_way(stored, orientation):
    size = stored[::-1] if orientation in _TURNS else stored
    expected = orientation in _KEEPS_SIZE or (orientation in _TURNS and stored[0] == stored[1])
    assert fits_either_way(encode_turned_jpeg(_pixels(*stored), orientation), size) == expected


def _files(pixels, number, order):
    """Files of all types that OpenCV writes, with an orientation in the given byte order."""
    block = exif_block(number, order)
    jpeg = encode_turned_jpeg(pixels, number, order)
    png = cv2.imencode(".png", pixels)[1].tobytes()
    chunk = b"eXIf" + block
    length, check = (value.to_bytes(4, "big") for value in (len(block), zlib.crc32(chunk)))
    after_header = 8 + 12 + 13
    png = png[:after_header] + length + chunk + check + png[after_header:]
    bmp, webp, tiff = (
        cv2.imencode(kind, pixels)[1].tobytes() + b"Exif\0\0" + block
        for kind in (".bmp", ".webp", ".tiff")
    )
    return {"jpeg": jpeg, "png": png, "bmp": bmp, "webp": webp, "tiff": tiff}


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("number", range(10))
def test_the_tag_is_read_as_opencv_reads_it(number, order):
    pixels = _pixels(24, 24)
    for kind, data in _files(pixels, number, order).items():
        encoded = np.frombuffer(data, np.uint8)
        turned = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        stored = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert (orientation(data) != 1) == (not np.array_equal(turned, stored)), kind


def test_an_image_without_a_tag_or_with_a_damaged_one_is_upright():
    assert orientation(cv2.imencode(".jpg", _pixels(96, 96))[1].tobytes()) == 1
    assert orientation(b"") == 1
    whole = encode_turned_jpeg(_pixels(8, 8), 3)
    mark = whole.index(b"Exif")
    assert {orientation(whole[:end]) for end in range(mark, mark + 26)} == {1}
    assert orientation(whole) == 3


@given(st.binary(max_size=60), st.sampled_from([b"II", b"MM", b""]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_an_orientation(block, order):
    assert 1 <= orientation(b"\xff\xd8\xff\xe1\0\x50Exif\0\0" + order + block) <= 8


@pytest.fixture
def dataset(folder, request):
    """Photographs that are stored with the orientations of the test's parameter."""
    for number, tag in enumerate(request.param, start=1):
        folder.add_image(96, 96, boxes=[[1, 1, 20, 20]], write=False)
        path = folder.path / f"{number}.png"  # OpenCV tells the format by the content
        path.write_bytes(encode_turned_jpeg(_pixels(96, 96), tag))
    return CocoDataset(folder.write(request.node.name))


@pytest.mark.parametrize("dataset", [(1, 3, 6, 3)], indirect=True)
@pytest.mark.parametrize("use", ["records", "pictures"])
def test_what_is_assumed_is_said_once_for_a_data_set(dataset, config, caplog, use):
    records = dataset.records(False, config)
    for record in [*records, *records]:
        image = read_image(record) if use == "records" else read_picture(dataset, record.image_id)
        assert image.shape == (96, 96, 3)
    assert caplog.messages == [
        f"data set {dataset.name}: the EXIF tag turns 3 of 4 images and keeps their annotated "
        f"size, first {records[1].path}: their boxes are taken to be made on the turned images, "
        "as viewers show them"
    ]


@pytest.mark.parametrize("dataset", [(3, 1, 4)], indirect=True)
def test_a_missing_file_is_not_counted(dataset, config, caplog):
    first, _, last = dataset.records(False, config)
    os.remove(last.path)
    read_image(first)
    assert "turns 1 of 3 images" in caplog.text


@pytest.mark.parametrize("dataset", [(3,)], indirect=True)
def test_the_image_is_turned(dataset, config):
    (record,) = dataset.records(False, config)
    expected = _pixels(96, 96)[::-1, ::-1]
    assert np.abs(read_image(record).astype(int) - expected).max() < 40


@pytest.mark.parametrize("dataset", [(1, 1)], indirect=True)
def test_photographs_that_are_stored_upright_need_no_warning(dataset, config, caplog):
    for record in dataset.records(False, config):
        read_image(record)
    assert not caplog.messages
