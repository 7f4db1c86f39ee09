"""Small data sets and configurations for the data tests."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from detectron_ext.config import load
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.image_record import ImageRecord


def changeable(node):
    """A configuration as nested namespaces, so that a test can set single keys."""
    return SimpleNamespace(
        **{
            key: changeable(value) if isinstance(value, dict) and value else value
            for key, value in node.items()
        }
    )


@pytest.fixture
def config():
    """Detectron's defaults, but for small images and the classes of :class:`Folder`."""
    small = ["MODEL.NUM_CLASSES", 3, "FPN.FPN_ON", True]
    small += ["TRAIN.SCALES", (60,), "TRAIN.MAX_SIZE", 100, "TEST.SCALE", 60, "TEST.MAX_SIZE", 100]
    return changeable(load(None, small).copy())


class Folder:
    """Writes images and a COCO file into a folder."""

    def __init__(self, path):
        self.path = path
        self.content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}],
        }

    def add_image(self, width=40, height=30, boxes=(), write=True):
        """Add an image and its annotations: xywh lists, or dicts of annotation fields."""
        number = len(self.content["images"]) + 1
        name = f"{number}.png"
        if write:
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3))
            cv2.imwrite(str(self.path / name), pixels.astype(np.uint8))
        self.content["images"].append(
            {"id": number, "file_name": name, "width": width, "height": height}
        )
        for box in boxes:
            fields = box if isinstance(box, dict) else {"bbox": box}
            annotation = {
                "id": len(self.content["annotations"]) + 1,
                "image_id": number,
                "category_id": 7,
            }
            annotation.update(fields)
            self.content["annotations"].append(annotation)
        return self

    def write(self, name="toy"):
        """Write the COCO file; return its catalog entry."""
        path = self.path / f"{name}.json"
        path.write_text(json.dumps(self.content))
        return DatasetEntry(name, str(self.path), str(path))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def make_record(tmp_path):
    """Return a function that writes a random image and returns its record."""

    def make(width=40, height=30, boxes=((5, 5, 20, 15),), is_crowd=None, number=0):
        path = tmp_path / f"record{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3))
        cv2.imwrite(str(path), pixels.astype(np.uint8))
        boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        crowd = (
            np.zeros(len(boxes), dtype=bool) if is_crowd is None else np.array(is_crowd, dtype=bool)
        )
        classes = np.arange(1, len(boxes) + 1, dtype=np.int32)
        return ImageRecord(number, str(path), height, width, boxes, classes, crowd, False, "toy")

    return make
