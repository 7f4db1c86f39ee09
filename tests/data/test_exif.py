"""Photographs that are stored turned, where the annotated size does not tell how."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from exif import encode_turned_jpeg

from detectron_ext.commands.pictures import read_picture
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.exif import fits_either_way
from detectron_ext.data.transforms import read_image

_KEEPS_SIZE = (2, 3, 4)
_TURNS = (5, 6, 7, 8)


def _pixels(height, width):
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 3, : width // 2] = 240
    return image


def _encoded(pixels, orientation):
    return np.frombuffer(encode_turned_jpeg(pixels, orientation), np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [(120, 160), (96, 96), (100, 103), (5, 7)])
def test_only_a_tag_that_keeps_the_size_fits_either_way(stored, orientation):
    size = stored[::-1] if orientation in _TURNS else stored
    expected = orientation in _KEEPS_SIZE or (orientation in _TURNS and stored[0] == stored[1])
    assert fits_either_way(_encoded(_pixels(*stored), orientation), size) == expected


def test_an_image_without_a_tag_fits_one_way():
    assert not fits_either_way(cv2.imencode(".jpg", _pixels(96, 96))[1].ravel(), (96, 96))
    uniform = np.full((96, 96, 3), 9, np.uint8)
    assert not fits_either_way(_encoded(uniform, 6), (96, 96))


@pytest.fixture
def dataset(folder, request):
    """Photographs that are stored with the orientations of the test's parameter."""
    for number, orientation in enumerate(request.param, start=1):
        folder.add_image(96, 96, boxes=[[1, 1, 20, 20]], write=False)
        path = folder.path / f"{number}.png"  # OpenCV tells the format by the content
        path.write_bytes(encode_turned_jpeg(_pixels(96, 96), orientation))
    return CocoDataset(folder.write(request.node.name))


@pytest.mark.parametrize("dataset", [(1, 3, 6, 3)], indirect=True)
@pytest.mark.parametrize("use", ["records", "pictures"])
def test_what_is_assumed_is_said_once_for_a_data_set(dataset, config, caplog, use):
    records = dataset.records(False, config)
    for record in [*records, *records]:
        image = read_image(record) if use == "records" else read_picture(dataset, record.image_id)
        assert image.shape == (96, 96, 3)
    assert caplog.messages == [
        f"data set {dataset.name}: the EXIF tag of image {records[1].path} turns it, and the "
        "annotated size fits both ways: its boxes, and those of all such images, are taken to be "
        "made on the turned image, as viewers show it"
    ]


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
