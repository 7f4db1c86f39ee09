"""Folders of tested runs, whole and otherwise."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from random_scenes import scene
from tested_run import write_test

from detectron_ext.errors import UserError
from detectron_ext.evaluation.run_folder import TestRun, open_run

_DETECTION = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}


@pytest.mark.parametrize(
    "name", ["detections.json", "bbox_cats_val_results.json", "bbox_cats_val_results_1a-2b.json"]
)
def test_detections_of_this_project_and_of_upstream_are_found(tmp_path, name):
    folder = write_test(tmp_path, {name: [_DETECTION]})
    coco, _ = scene(0)
    for given in (tmp_path, folder):
        run = open_run(str(given))
        assert (run.dataset, run.root) == ("cats_val", tmp_path)
        assert run.detections(coco) == [_DETECTION]
        assert len(run.warnings) == (name == "detections.json")


@pytest.mark.parametrize(
    "path, root",
    [
        ("/", "/"),
        ("/run", "/run"),
        ("/test/run", "/test/run"),
        ("/test/cats_val/retinanet", "/"),
        ("/run/test/cats_val/retinanet", "/run"),
        ("/run/cats_val/retinanet", "/run/cats_val/retinanet"),
    ],
)
def test_a_folder_with_one_test_may_be_anywhere(path, root):
    assert TestRun("run", "cats_val", Path(path)).root == Path(root)


def test_a_test_that_was_not_scored_is_a_warning(tmp_path):
    folder = write_test(tmp_path, {"detections.json": [_DETECTION]})
    assert "images may be missing" in open_run(str(tmp_path)).warnings[0]
    (folder / "results.json").write_text('{"AP": 0.5}')
    assert open_run(str(tmp_path)).warnings == []


_BOXES = np.array([[10, 20, 39, 59, 0.5]])


def _write_pickle(root, *by_class):
    content = {"all_boxes": [[[], []], *by_class], "cfg": ""}
    path = write_test(root, {}) / "detections.pkl"
    path.write_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))


def test_detections_in_a_pickle_of_upstream_are_read(tmp_path):
    coco, _ = scene(0, num_images=2)
    _write_pickle(tmp_path, [_BOXES, []], [[], []], [[], np.ones((0, 5))])
    assert open_run(str(tmp_path)).detections(coco) == [
        {"image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5}
    ]
    other, _ = scene(0, num_images=3)
    with pytest.raises(UserError, match="does not fit the annotations"):
        open_run(str(tmp_path)).detections(other)


def test_classes_of_upstream_have_the_order_of_the_annotation_file(tmp_path):
    coco, _ = scene(0, num_images=2)
    coco.dataset["categories"].reverse()
    coco.dataset["images"].reverse()
    coco.createIndex()
    _write_pickle(tmp_path, [_BOXES, []], [[], []], [[], []])
    (found,) = open_run(str(tmp_path)).detections(coco)
    assert (found["category_id"], found["image_id"]) == (9, 1)


@pytest.mark.parametrize(
    "images, message",
    [
        ([[], np.array([[10, 20, 39, 59, np.nan]])], "boxes of image 2 or their scores are not fi"),
        ([np.array([[10, 20, np.inf, 59, 0.5]]), []], "boxes of image 1 or their scores are not f"),
        ([[[1, 2, 3]], []], "boxes of image 1 are not rows of five numbers"),
        ([[[1, 2, 3, 4, "x"]], []], "boxes of image 1 are not rows of five numbers"),
        ([[]], "does not fit the annotations"),
        (None, "does not fit the annotations"),
    ],
)
def test_a_damaged_pickle_of_upstream_is_named(tmp_path, images, message):
    _write_pickle(tmp_path, images, [[], []], [[], []])
    with pytest.raises(UserError, match=message) as caught:
        open_run(str(tmp_path)).detections(scene(0, num_images=2)[0])
    assert "detections.pkl" in str(caught.value)


def test_results_in_the_layout_of_upstream_are_read(tmp_path):
    results = {"cats_val": {"box": {"AP": 0.5}}}
    write_test(tmp_path, {"results.json": results, "detections.json": []})
    assert open_run(str(tmp_path)).results == {"AP": 0.5}


def test_a_pickle_of_python_2_may_have_classes_without_detections(tmp_path):
    nothing = {"all_boxes": [[]] + 3 * [[np.zeros((0, 5), np.float32)] * 2], "cfg": ""}
    folder = write_test(tmp_path, {})
    (folder / "detections.pkl").write_bytes(pickle.dumps(nothing, protocol=2))
    assert open_run(str(tmp_path)).detections(scene(0, num_images=2)[0]) == []


def test_results_without_detections_are_a_warning(tmp_path):
    write_test(tmp_path, {"results.json": {"AP": 0.5}})
    run = open_run(str(tmp_path))
    assert run.detections(scene(0)[0]) is None
    assert "the detections were not kept" in run.warnings[0]


_RECALL = {"AR@100": 0.5, "AR@1000": 0.6, "num_images": 40, "num_proposals": 9}


def test_a_test_of_an_rpn_has_no_detections_to_compare(tmp_path):
    folder = write_test(tmp_path, {"results.json": _RECALL})
    run = open_run(str(tmp_path))
    assert run.warnings == []
    with pytest.raises(UserError, match=r"has only proposals \(MODEL.RPN_ONLY\)") as caught:
        run.detections(scene(0)[0])
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    (folder / "detections.json").write_text("[]")
    run = open_run(str(tmp_path))
    assert "another format" in run.warnings[0]
    assert run.detections(scene(0)[0]) == []


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has no finished test"),
        ({"detections_range_0_9.json": []}, "only tested on a part of the images"),
        ({"detections.json": '[{"image_id": 1'}, "is not JSON"),
        ({"bbox_cats_val_results_1.json": [], "bbox_cats_val_results_2.json": []}, "2 bbox"),
    ],
)
def test_an_unfinished_or_unclear_folder_is_an_error(tmp_path, files, message):
    write_test(tmp_path, files)
    with pytest.raises(UserError, match=message) as caught:
        open_run(str(tmp_path)).detections(scene(0)[0])
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        '{"AP": 0.',
        '{"AP": "0.44"}',
        '{"AP": 0.4, "num_images": "40"}',
        '{"AP": 0.4, "untested_images": 7}',
        '{"AP": 0.4, "untested_images": [[7]]}',
        '{"num_proposals": 9, "untested_images": 7}',
        "[" * 100000,
    ],
)
def test_damaged_results_are_a_warning(tmp_path, content):
    write_test(tmp_path, {"results.json": content, "detections.json": []})
    run = open_run(str(tmp_path))
    assert run.results is None
    assert "results.json is damaged" in run.warnings[0]


def _write_log(root, content=b'{"iter": 0, "seconds": 2.5}\n', dataset="cats_train"):
    path = root / "train" / dataset / "retinanet" / "stats.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "tail, num_damaged",
    [
        (b"", 0),
        (b'7\n{"iter": 20, "sec', 2),
        (b'{"iter": 20, "\xff\xfe\x00', 1),
        (b"[" * 100000, 1),
    ],
)
def test_unfinished_training_and_damaged_lines_are_warnings(tmp_path, tail, num_damaged):
    write_test(tmp_path, {"detections.json": [], "results.json": {"AP": 0.5}})
    _write_log(tmp_path, b'{"iter": 0, "seconds": 2.5}\n' + tail)
    run = open_run(str(tmp_path))
    assert run.training() == ([{"iter": 0, "seconds": 2.5}], num_damaged)
    assert "training has not finished" in run.warnings[0]
    if num_damaged:
        assert f"damaged lines in stats.jsonl: {num_damaged}" in run.warnings[1]


def test_numbers_may_be_text_as_detectron_prints_them(tmp_path):
    write_test(tmp_path, {"detections.json": []})
    line = '{"iter": 20, "time": "0.25", "loss": "nan", "eta": "0:01:02", "mem": null, "lr": [1]}'
    _write_log(tmp_path, line.encode())
    assert open_run(str(tmp_path)).training().entries == [{"iter": 20, "time": 0.25}]


def test_no_training_log_is_used_if_there_are_several(tmp_path):
    write_test(tmp_path, {"detections.json": []})
    for dataset in ("cats_train", "dogs_train"):
        _write_log(tmp_path, dataset=dataset)
    run = open_run(str(tmp_path))
    assert run.training().entries == []
    assert "2 training logs, so none is used: train/cats_train" in run.warnings[-1]


def test_a_training_log_that_cannot_be_read_is_a_warning(tmp_path):
    write_test(tmp_path, {"detections.json": []})
    (tmp_path / "train/cats_train/retinanet/stats.jsonl").mkdir(parents=True)
    run = open_run(str(tmp_path))
    assert run.training().entries == []
    assert "cats_train/retinanet/stats.jsonl cannot be read" in run.warnings[-1]


def test_one_of_several_tests_must_be_chosen(tmp_path):
    for dataset in ("cats_val", "cats_test"):
        write_test(tmp_path, {"detections.json": []}, dataset)
    with pytest.raises(UserError, match="has 2 tests; name the folder of one of them: ") as caught:
        open_run(str(tmp_path))
    for named in str(caught.value).split(": ")[1].split(", "):
        assert open_run(named).dataset in ("cats_val", "cats_test")
    assert open_run(str(tmp_path), "cats_test").dataset == "cats_test"
    with pytest.raises(UserError, match="was tested on cats_test, cats_val, not on dogs"):
        open_run(str(tmp_path), "dogs")
    with pytest.raises(UserError, match="no such run folder"):
        open_run(str(tmp_path / "none"))
