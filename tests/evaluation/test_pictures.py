"""Pictures of a data set's images with what was found in them."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from exif import encode_turned_jpeg

from detectron_ext.commands.pictures import check_pictures, draw_detections
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError
from detectron_ext.evaluation.drawing import titled

_HEIGHT, _WIDTH = 120, 160


@pytest.fixture
def dataset(tmp_path):
    """Return a function: file contents by name -> a data set of them, each with one box."""

    def make(files: dict) -> CocoDataset:
        images, annotations = [], []
        for number, (name, content) in enumerate(files.items(), start=1):
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            images.append({"id": number, "file_name": name, "width": _WIDTH, "height": _HEIGHT})
            box = {"id": number, "image_id": number, "category_id": 1, "bbox": [90, 20, 60, 30]}
            annotations.append(box)
        categories = [{"id": 1, "name": "square"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        ann_fn = tmp_path / "annotations.json"
        ann_fn.write_text(json.dumps(content))
        return CocoDataset(DatasetEntry("photographs", str(tmp_path / "images"), str(ann_fn)))

    return make


@pytest.fixture
def pixels():
    image = np.full((_HEIGHT, _WIDTH, 3), 90, np.uint8)
    image[20:50, 90:150] = 240
    return image


def test_a_photograph_annotated_as_stored_is_drawn_as_stored(dataset, pixels, tmp_path):
    turned = encode_turned_jpeg(pixels)
    plain = cv2.imencode(".jpg", pixels)[1].tobytes()
    photographs = dataset({"turned.jpg": turned, "plain.jpg": plain})
    paths = draw_detections(photographs, [], str(tmp_path / "out"), 0.5, [1, 2])
    drawn, expected = map(cv2.imread, paths)
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    "files, pictures",
    [
        (("a/b.jpg", "c.jpg"), ["a_b.png", "c.png"]),
        (("c.jpg", "c.jpeg", "d.jpg"), ["c.jpg.png", "c.jpeg.png", "d.png"]),
        (("a/b.jpg", "a_b.jpg"), ["a_b.jpg.png", "a_b.jpg_2.png"]),
        (("c.jpg", "c.jpeg", "c.jpg.png"), ["c.jpg_1.png", "c.jpeg.png", "c.jpg.png"]),
    ],
)
def test_no_picture_overwrites_another(dataset, pixels, tmp_path, files, pictures):
    content = cv2.imencode(".png", pixels)[1].tobytes()
    images = dataset(dict.fromkeys(files, content))
    paths = draw_detections(images, [], str(tmp_path / "out"), 0.5, images.image_ids())
    assert paths == [str(tmp_path / "out" / name) for name in pictures]
    assert draw_detections(images, [], str(tmp_path / "out"), 0.5, [2]) == [paths[1]]


def test_a_large_picture_is_reduced_and_that_is_said(dataset, tmp_path, caplog):
    wide = cv2.imencode(".png", np.zeros((12, 9000, 3), np.uint8))[1].tobytes()
    small = cv2.imencode(".png", np.zeros((_HEIGHT, _WIDTH, 3), np.uint8))[1].tobytes()
    data = dataset({"wide.png": wide, "small.png": small})
    data.coco.imgs[1].update(width=9000, height=12)
    with caplog.at_level("INFO"):
        paths = draw_detections(data, [], str(tmp_path / "out"), 0.5, [1, 2])
    assert max(cv2.imread(paths[0]).shape) <= 4096 + 6
    assert (
        "1 of them is reduced: the images in a picture have at most 4096 pixels on a side"
        in caplog.text
    )


def test_names_that_are_not_utf_8_are_drawn(dataset, pixels, tmp_path):
    """OpenCV's own functions end the process for such text."""
    content = cv2.imencode(".png", pixels)[1].tobytes()
    name = os.fsdecode(b"\xff\xfe.png")
    images = dataset({name: content})
    images.classes[1] = "\udcff"
    found = [{"image_id": 1, "category_id": 1, "bbox": [9, 9, 20, 20], "score": 0.9}]
    (path,) = draw_detections(images, found, str(tmp_path / "out"), 0.5, [1])
    assert os.listdir(tmp_path / "out") == [name] == [os.path.basename(path)]
    assert titled(pixels, "\udcff").shape[1] == _WIDTH


@pytest.mark.parametrize("suffix", ["./../x.png", ".\0png", ".tgz"])
def test_an_extension_cannot_lead_out_of_the_folder(tmp_path, suffix):
    with pytest.raises(UserError, match="use png"):
        check_pictures(str(tmp_path), suffix)
