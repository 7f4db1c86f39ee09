"""The annotation files of folds: what their readers must still know, and which images they read."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from squares import write_tiny_config

from detectron_ext.config import load
from detectron_ext.data.records import training_records
from detectron_ext.errors import DatasetError
from detectron_ext.experiments.folds import Fold, Folds, write_split

_FOLD = Fold("split", "data", 1, Folds(2, (1, 2)))


@pytest.fixture
def squares(tmp_path):
    """A configuration of 8 images: 1 has only a dropped box, 2 is empty, the others have boxes."""
    path = tmp_path / "squares" / "annotations.json"
    cfg = write_tiny_config(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] > 2]
    dropped = {"id": 900, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 9]}
    content["annotations"].append(dropped)
    path.write_text(json.dumps(content))
    return tmp_path, load(str(cfg), ["LIBRA.DATA.KEEP_EMPTY_IMAGES", True])


def _trained_images(name, config):
    return {record.image_id for record in training_records(name, config)[0]}


def test_an_image_whose_boxes_were_dropped_is_no_negative_in_folds_either(squares):
    folder, config = squares
    expected = set(range(2, 9))
    assert _trained_images("squares", config) == expected
    write_split(str(folder), _FOLD, ["squares"], config)
    found = set()
    for number in (1, 2):
        fold = _FOLD._replace(number=number)
        parts = config.with_overrides(fold.overrides(str(folder)))
        found |= _trained_images(fold.dataset("train"), parts)
    assert found == expected


def test_images_of_16_bits_are_read_as_in_training(squares):
    folder, config = squares
    path = folder / "squares" / "images" / "3.png"
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    with pytest.raises(DatasetError, match=r"3\.png .*DEEP_IMAGES.*: mend the file or remove it"):
        write_split(str(folder), _FOLD, ["squares"], config)
    stretched = config.with_overrides(["LIBRA.DATA.DEEP_IMAGES", "scale"])
    write_split(str(folder), _FOLD, ["squares"], stretched)
    assert (folder / "split" / "split.json").exists()
