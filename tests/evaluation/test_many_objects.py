"""Images with more objects than COCO's AP counts detections."""

from __future__ import annotations

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tested_run import write_test

from detectron_ext import config as configuration
from detectron_ext.commands.compare import compare_runs
from detectron_ext.commands.scoring import detect_and_score
from detectron_ext.commands.train_and_test import test as run_test
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError
from detectron_ext.evaluation.average_precision import resampled_average_precision
from detectron_ext.evaluation.coco_eval import (
    METRICS,
    average_precisions,
    match_detections,
    summarise,
)
from detectron_ext.evaluation.detection_limit import limit_message
from detectron_ext.evaluation.matches import collect_matches
from detectron_ext.evaluation.scores import score_detections


def _grid(num_side: int, image: int = 1, category: int = 1) -> list[dict]:
    """Boxes of 8 x 8 pixels in rows and columns."""
    return [
        {"image_id": image, "category_id": category, "bbox": [10 * x, 10 * y, 8, 8]}
        for y in range(num_side)
        for x in range(num_side)
    ]


def _coco(boxes: list[dict], num_images: int = 1) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 200, "height": 200}
            for n in range(1, num_images + 1)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "grain"}],
        "annotations": [
            {"id": n, "area": 64, "iscrowd": 0, **box} for n, box in enumerate(boxes, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _found(boxes: list[dict]) -> list[dict]:
    return [{**box, "score": 0.99 - 0.001 * n} for n, box in enumerate(boxes)]


@pytest.mark.parametrize("limit", [100, 200])
def test_perfect_detections_of_196_objects(limit):
    boxes = _grid(14)
    results = score_detections(_coco(boxes), _found(boxes), limit)
    # Recall ends at 100 / 196, which is 52 of the 101 points.
    assert results["AP"] == pytest.approx(52 / 101)
    for kind in ("box", "concept"):
        assert results[kind]["recall"] == results[kind]["precision"] == 1
    assert ("AP@200" in results) == (limit == 200)
    if limit == 200:
        assert results["AP@200"] == results["AP50@200"] == results["APs@200"] == pytest.approx(1)


@pytest.fixture(scope="module")
def scene():
    """Three images with 144 and 64 objects of two classes; 200 and 90 detections that jitter."""
    rng = np.random.default_rng(0)
    boxes = [*_grid(12), *_grid(8, 2, 2), *_grid(12, 3)]
    found = []
    for box in [*boxes, *_grid(14), *_grid(6, 3, 2)]:
        moved = [value + float(rng.normal(0, 0.7)) for value in box["bbox"]]
        found.append({**box, "bbox": moved, "score": float(rng.random())})
    return _coco(boxes, 3), found


@pytest.mark.parametrize("limit", [100, 150, 1000])
def test_each_limit_gives_the_scores_of_pycocotools(scene, limit):
    coco, found = scene
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCOeval(coco, coco.loadRes([dict(one) for one in found]), "bbox")
        oracle.params.maxDets = [100, limit]
        oracle.evaluate()
        oracle.accumulate()
    matched = match_detections(coco, found, limit)
    results = summarise(matched)
    matches = collect_matches(matched)
    once = np.ones((1, 3), np.int64)
    for place, end in ((0, ""), (-1, f"@{limit}" if limit > 100 else "")):
        expected = average_precisions(oracle.eval["precision"][..., place])
        at = resampled_average_precision(matches, once, limit if end else 100)
        for name in METRICS:
            assert results[name + end] == expected[name]
            np.testing.assert_array_equal(
                at[name], np.nan if expected[name] is None else expected[name]
            )
    assert limit == 100 or results[f"AP@{limit}"] > results["AP"]


def test_the_limit_is_said_where_it_binds():
    boxes = _grid(10)
    assert limit_message(boxes, _found(boxes)) == ""
    crowd = [{**box, "iscrowd": 1} for box in _grid(11)]
    assert limit_message(crowd, []) == ""
    many = [*_grid(11), *_grid(12, 2)]
    said = "COCO's AP counts only the 100 best detections of a class in an image, and "
    adds = "LIBRA.EVALUATION.AP_DETECTIONS 144 adds the AP that counts them all"
    objects = "2 images have up to 144 objects of a class"
    assert limit_message(many, []) == f"{said}{objects}; {adds}"
    assert limit_message([], _found(_grid(12))) == (
        f"{said}1 image has up to 144 detections of a class; {adds}"
    )
    assert limit_message(many, [], 120) == f"{said}{objects}; {adds} (now 120)"
    assert limit_message(many, [], 150) == f"{said}{objects}; see AP@150"


def test_testing_and_comparing_say_it_and_add_the_other_ap(tmp_path, caplog):
    boxes = _grid(14)
    coco = _coco(boxes)
    (tmp_path / "truth.json").write_text(json.dumps(coco.dataset))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((200, 200, 3), np.uint8))
    entry = {"im_dir": str(tmp_path), "ann_fn": str(tmp_path / "truth.json")}
    dataset = CocoDataset(DatasetEntry("cells", **entry))
    (tmp_path / "compare.yaml").write_text(
        json.dumps(
            {"DATASETS_EXTRA": {"cells": entry}, "LIBRA": {"EVALUATION": {"AP_DETECTIONS": 200}}}
        )
    )
    settings = ["OUTPUT_DIR", str(tmp_path / "run"), "MODEL.TYPE", "generalized_rcnn"]
    config = configuration.load(str(tmp_path / "compare.yaml"), settings)

    corners = [[x, y, x + w - 1, y + h - 1] for x, y, w, h in (box["bbox"] for box in boxes)]
    rows = np.array([[*box, 0.9, 1] for box in corners], np.float32)
    results = detect_and_score(config, lambda *_: rows, dataset, [1])
    assert (results["AP"], results["AP@200"]) == (pytest.approx(52 / 101), pytest.approx(1))
    assert "cells: COCO's AP counts only the 100 best" in caplog.text
    caplog.clear()

    for name in ("a", "b"):
        write_test(tmp_path / name, {"detections.json": _found(boxes)}, "cells")
    runs = [str(tmp_path / name) for name in ("a", "b")]
    tables = compare_runs(config, runs[:1], [runs[1:]], str(tmp_path / "out"))
    assert "AP50@200" in tables
    assert "1 image has up to 196 objects of a class" in caplog.text
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = {row["metric"]: row for row in content["candidates"][0]["rows"]}
    assert rows["AP@200"]["baseline"]["mean"] == pytest.approx(1)
    assert rows["AP@200"]["interval"] == [0, 0]


def test_more_objects_than_detections_are_kept_is_said_before_the_test(tmp_path, caplog):
    (tmp_path / "truth.json").write_text(json.dumps(_coco(_grid(14)).dataset))
    entry = {"im_dir": str(tmp_path), "ann_fn": str(tmp_path / "truth.json")}
    overrides = [
        "DATASETS_EXTRA", {"cells": entry}, "TEST.DATASETS", ["cells"], "MODEL.NUM_CLASSES", 3,
        "MODEL.TYPE", "retinanet", "OUTPUT_DIR", str(tmp_path / "run"),
    ]  # fmt: skip
    message = (
        "cells: 1 image has up to 196 objects, and a test keeps 100 detections of an image: "
        "set TEST.DETECTIONS_PER_IM 196 or more"
    )
    for kept, expected in ((100, [message]), (196, []), (0, [])):
        caplog.clear()
        with pytest.raises(UserError, match="no weights"):
            run_test(configuration.load(overrides=[*overrides, "TEST.DETECTIONS_PER_IM", kept]))
        assert [line for line in caplog.messages if "objects" in line] == expected
