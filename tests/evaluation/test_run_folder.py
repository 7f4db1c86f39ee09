"""Folders of tested runs, whole and otherwise."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from random_scenes import scene

from detectron_ext.errors import UserError
from detectron_ext.evaluation.run_folder import open_run

_DETECTION = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}


def write_test(root: Path, files: dict, dataset: str = "cats_val") -> Path:
    """Write files (content by name; JSON where it is no text) of a test; returns their folder."""
    folder = root / "test" / dataset / "retinanet"
    folder.mkdir(parents=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "name", ["detections.json", "bbox_cats_val_results.json", "bbox_cats_val_results_1a-2b.json"]
)
def test_detections_of_ours_and_of_upstream(tmp_path, name):
    folder = write_test(tmp_path, {name: [_DETECTION]})
    coco, _ = scene(0)
    for given in (tmp_path, folder):
        run = open_run(str(given))
        assert (run.dataset, run.root) == ("cats_val", tmp_path)
        assert run.detections(coco) == [_DETECTION]
        assert run.warnings == []


def test_upstreams_pickle(tmp_path):
    coco, _ = scene(0, num_images=2)
    boxes = [[[], []], [np.array([[10, 20, 39, 59, 0.5]]), []], [[], []], [[], np.ones((0, 5))]]
    folder = write_test(tmp_path, {})
    content = {"all_boxes": boxes, "cfg": ""}
    (folder / "detections.pkl").write_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))
    assert open_run(str(tmp_path)).detections(coco) == [
        {"image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5}
    ]
    other, _ = scene(0, num_images=3)
    with pytest.raises(UserError, match="does not fit the annotations"):
        open_run(str(tmp_path)).detections(other)


def test_upstreams_layout_of_results(tmp_path):
    results = {"cats_val": {"box": {"AP": 0.5}}}
    write_test(tmp_path, {"results.json": results, "detections.json": []})
    assert open_run(str(tmp_path)).results == {"AP": 0.5}


def test_a_pickle_for_python_2_may_have_classes_that_nothing_was_found_of(tmp_path):
    nothing = {"all_boxes": [[]] + 3 * [[np.zeros((0, 5), np.float32)] * 2], "cfg": ""}
    folder = write_test(tmp_path, {})
    (folder / "detections.pkl").write_bytes(pickle.dumps(nothing, protocol=2))
    assert open_run(str(tmp_path)).detections(scene(0, num_images=2)[0]) == []


def test_results_without_detections_are_a_warning(tmp_path):
    write_test(tmp_path, {"results.json": {"AP": 0.5}})
    run = open_run(str(tmp_path))
    assert run.detections(scene(0)[0]) is None
    assert "no detections kept" in run.warnings[0]


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "holds no finished test"),
        ({"detections_range_0_9.json": []}, "a part of the images only"),
        ({"detections.json": '[{"image_id": 1'}, "is not JSON"),
        ({"bbox_cats_val_results_1.json": [], "bbox_cats_val_results_2.json": []}, "2 bbox"),
    ],
)
def test_an_unfinished_or_unclear_folder_is_an_error(tmp_path, files, message):
    write_test(tmp_path, files)
    with pytest.raises(UserError, match=message) as caught:
        open_run(str(tmp_path)).detections(scene(0)[0])
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_half_written_results_are_a_warning(tmp_path):
    write_test(tmp_path, {"results.json": '{"AP": 0.', "detections.json": []})
    run = open_run(str(tmp_path))
    assert run.results is None
    assert "results.json is damaged" in run.warnings[0]


def test_unfinished_training_is_a_warning(tmp_path):
    write_test(tmp_path, {"detections.json": []})
    log = tmp_path / "train" / "cats_train" / "retinanet" / "stats.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"iter": 0, "seconds": 2.5}\n7\n{"iter": 20, "sec')
    run = open_run(str(tmp_path))
    assert run.training() == [{"iter": 0, "seconds": 2.5}]
    assert "training has not finished" in run.warnings[0]
    assert all("damaged" in line for line in run.warnings[1:]) and len(run.warnings) == 3


def test_several_tests_need_a_choice(tmp_path):
    for dataset in ("cats_val", "cats_test"):
        write_test(tmp_path, {"detections.json": []}, dataset)
    with pytest.raises(UserError, match="use --dataset"):
        open_run(str(tmp_path))
    assert open_run(str(tmp_path), "cats_test").dataset == "cats_test"
    with pytest.raises(UserError, match="was tested on cats_test, cats_val, not on dogs"):
        open_run(str(tmp_path), "dogs")
    with pytest.raises(UserError, match="no such run folder"):
        open_run(str(tmp_path / "none"))
