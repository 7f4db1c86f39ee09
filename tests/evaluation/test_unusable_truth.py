"""Unusable ground truth is scored, compared and drawn by the rules of training."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from squares import make_squares
from tested_run import write_test

from detectron_ext import config as configuration
from detectron_ext.commands.compare import compare_runs
from detectron_ext.commands.scoring import detect_and_score, propose_and_score
from detectron_ext.commands.train_and_test import test as run_test
from detectron_ext.commands.visualize import visualize
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError

_FIELDS = [
    {"image_id": "1"},
    {"category_id": 9},
    {"bbox": [70, 70, 0, 20]},
    {"bbox": [70, 70, -20, 20]},
    {"bbox": [300, 300, 20, 20]},
    {"ignore": 1},
]


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        overrides=["OUTPUT_DIR", str(tmp_path / "run"), "MODEL.TYPE", "generalized_rcnn"]
    )


@pytest.fixture
def make_entry(tmp_path):
    """Return a function: annotations to add or, alone, to replace all -> catalog entry."""
    entry = make_squares(tmp_path / "squares", 4)
    clean = Path(entry["ann_fn"]).read_text()

    def make(*fields, alone=False):
        content = json.loads(clean)
        usable = {"image_id": 1, "category_id": 1, "bbox": [70, 70, 20, 20]}
        added = [{"id": 100 + n, **usable, **changed} for n, changed in enumerate(fields)]
        content["annotations"] = [*([] if alone else content["annotations"]), *added]
        Path(entry["ann_fn"]).write_text(json.dumps(content))
        return entry

    return make


def _perfect(entry, extra=()):
    """What finds every object of the file in each image in turn, and more in the first image."""
    dataset = CocoDataset(DatasetEntry("clean", **entry))
    images = iter(dataset.image_ids())

    def find(*_):
        image_id = next(images)
        rows = [
            [x, y, x + w - 1, y + h - 1, 0.9, category]
            for (x, y, w, h), category in (
                (a["bbox"], a["category_id"]) for a in dataset.coco.imgToAnns[image_id]
            )
        ]
        return np.array([*rows, *(extra if image_id == 1 else ())], np.float32)

    return find


@pytest.mark.parametrize("fields", _FIELDS)
def test_it_does_not_lower_the_scores_and_is_said(config, make_entry, caplog, fields):
    find = _perfect(make_entry())
    dataset = CocoDataset(DatasetEntry("squares", **make_entry(fields)))
    results = detect_and_score(config, find, dataset, dataset.image_ids())
    assert results["AP"] == results["box"]["recall"] == results["concept"]["recall"] == 1
    said = "1 marked ignore" if "ignore" in fields else "squares: 1 of 9 boxes dropped: 1 "
    assert said in caplog.text


def test_a_detection_on_a_box_marked_ignore_is_not_false(config, make_entry):
    find = _perfect(make_entry(), extra=[[110, 100, 121, 113, 0.95, 1]])
    entry = make_entry({"bbox": [110, 100, 12, 14], "ignore": 1})
    dataset = CocoDataset(DatasetEntry("squares", **entry))
    results = detect_and_score(config, find, dataset, dataset.image_ids())
    assert results["num_detections"] == 9
    assert results["AP"] == results["box"]["precision"] == 1


@pytest.mark.parametrize("fields", [(), ({"iscrowd": 1},), ({"image_id": "1"},)])
def test_nothing_to_score_is_said_instead_of_an_undefined_score(
    config, make_entry, caplog, tmp_path, fields
):
    caplog.set_level(logging.INFO)
    find = _perfect(make_entry())
    entry = make_entry(*fields, alone=True)
    dataset = CocoDataset(DatasetEntry("squares", **entry))
    crowds = sum("iscrowd" in changed for changed in fields)
    message = (
        "squares: there is nothing to score, so every AP is undefined: no usable box of an object "
        f"in 4 images, {crowds} crowd{'s' if crowds != 1 else ''}"
    )
    results = detect_and_score(config, find, dataset, dataset.image_ids())
    assert results["AP"] is None
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    assert propose_and_score(config, lambda _: none, dataset, [1])["AR@100"] is None
    assert [line for line in caplog.messages if line.startswith("squares: ") and "AP" in line] == (
        [message] * 2
    )
    run = str(write_test(tmp_path / "tested", {"detections.json": []}, "squares"))
    with pytest.raises(UserError, match="squares has no usable box of an object"):
        compare_runs(
            config, [run], [[run]], str(tmp_path / "out"), annotations=entry["ann_fn"],
            names=["a", "b"],
        )  # fmt: skip


def test_nothing_to_score_is_said_before_the_weights_are_read(make_entry, caplog, tmp_path):
    overrides = [
        "DATASETS_EXTRA", {"squares": make_entry(alone=True)}, "TEST.DATASETS", ["squares"],
        "MODEL.NUM_CLASSES", 3, "MODEL.TYPE", "retinanet", "OUTPUT_DIR", str(tmp_path / "run"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no weights"):
        run_test(configuration.load(overrides=overrides))
    assert "squares: there is nothing to score" in caplog.text


def test_comparing_and_drawing_say_what_testing_says(make_entry, caplog, tmp_path):
    entry = make_entry({"bbox": [70, 70, 0, 20]}, {"bbox": [300, 300, 20, 20]})
    config = configuration.load(overrides=["DATASETS_EXTRA", {"squares": entry}])
    expected = (
        "squares: 2 of 10 boxes dropped: 1 zero-sized (annotation 100), "
        "1 outside the image (annotation 101)"
    )
    (tmp_path / "none.json").write_text("[]")
    visualize(config, "squares", str(tmp_path / "none.json"), str(tmp_path / "drawn"))
    assert expected in caplog.messages
    caplog.clear()
    moved = tmp_path / "moved.json"
    moved.write_text(Path(entry["ann_fn"]).read_text())
    runs = [
        str(write_test(tmp_path / name, {"detections.json": []}, "squares")) for name in ("a", "b")
    ]
    compare_runs(config, runs[:1], [runs[1:]], str(tmp_path / "out"), annotations=str(moved))
    assert expected in caplog.messages
