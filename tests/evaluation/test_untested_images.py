"""Images that a test skips count neither as found nor as missed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from squares import make_squares

from detectron_ext import config as configuration
from detectron_ext.commands.scoring import detect_and_score, propose_and_score
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        overrides=[
            "OUTPUT_DIR",
            str(tmp_path / "run"),
            "MODEL.TYPE",
            "generalized_rcnn",
            "LIBRA.DATA.SKIP_BAD_IMAGES",
            True,
        ]
    )


@pytest.fixture
def squares(tmp_path):
    """Four images: of the second the file is missing, of the third it is no image."""
    dataset = CocoDataset(DatasetEntry("squares", **make_squares(tmp_path / "squares", 4)))
    Path(dataset.image_path(2)).unlink()
    Path(dataset.image_path(3)).write_text("no image")
    return dataset


def _perfect(dataset, columns):
    """What finds every box of each image in turn; rows x1 y1 x2 y2 and the columns."""
    remaining = [1, 4]

    def find(image, *_):
        annotations = dataset.coco.imgToAnns[remaining.pop(0)]
        rows = [
            [x, y, x + w - 1, y + h - 1, 0.9, category]
            for (x, y, w, h), category in ((a["bbox"], a["category_id"]) for a in annotations)
        ]
        return np.array(rows, np.float32)[:, :columns]

    return find


def test_detections_are_scored_on_the_images_that_were_tested(config, squares, tmp_path):
    results = detect_and_score(config, _perfect(squares, 6), squares, squares.image_ids())
    assert (results["untested_images"], results["num_images"]) == ([2, 3], 2)
    assert results["AP"] == results["box"]["recall"] == results["concept"]["recall"] == 1
    (path,) = (tmp_path / "run").glob("test/squares/*/results.json")
    assert json.loads(path.read_text())["untested_images"] == [2, 3]


def test_proposals_are_scored_on_the_images_that_were_tested(config, squares):
    find = _perfect(squares, 5)

    def propose(image):
        found = find(image)
        return found[:, :4], found[:, 4]

    results = propose_and_score(config, propose, squares, squares.image_ids())
    assert (results["untested_images"], results["num_images"]) == ([2, 3], 2)
    assert results["AR@100"] == 1 and results["num_proposals"] == 4


def test_scores_are_undefined_if_no_image_was_tested(config, squares):
    for image_id in (1, 4):
        Path(squares.image_path(image_id)).unlink()
    results = detect_and_score(config, None, squares, squares.image_ids())
    assert (results["num_images"], results["AP"], results["box"]["recall"]) == (0, None, None)
    results = propose_and_score(config, None, squares, squares.image_ids())
    assert (results["num_images"], results["AR@100"]) == (0, None)
