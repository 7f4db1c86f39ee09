"""tools/reval.py scores what was saved, and merges the parts of a test."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from squares import write_tiny_rcnn_config
from tool_runner import failure, run_tool

_PERFECT_AP = pytest.approx(1)


@pytest.fixture
def truth(workplace):
    return json.loads((workplace.folder / "squares" / "annotations.json").read_text())


@pytest.fixture
def reval(tool, tmp_path):
    """Return a function: paths and flags -> outcome; the merged test is in tmp_path/out."""
    flags = ("--dataset", "squares", "--output-dir", tmp_path / "out")
    return lambda *arguments: tool("reval", *flags, *arguments)


def _merged(tmp_path) -> Path:
    return tmp_path / "out" / "test" / "squares" / "reval"


def _read(path):
    return json.loads(path.read_text())


def _perfect(truth, image_ids=range(1, 9)):
    return [
        {
            "image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"],
            "score": 0.5 + a["id"] / 100,
        }
        for a in truth["annotations"] if a["image_id"] in image_ids
    ]  # fmt: skip


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_the_parts_of_a_test_give_the_scores_of_the_whole_test(tool, reval, workplace, tmp_path):
    for start, end in ((0, 3), (3, 8)):
        outcome = tool(
            "test_net", "--range", start, end, "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR",
            tmp_path / "parts",
        )  # fmt: skip
        assert outcome.status == 0, outcome.err
    outcome = reval(tmp_path / "parts")
    assert outcome.status == 0, outcome.err
    for name in ("detections.json", "results.json"):
        assert _read(_merged(tmp_path) / name) == _read(workplace.testing / name), name
    assert "squares: AP " in outcome.err
    again = reval(*sorted((tmp_path / "parts").glob("test/squares/retinanet/detections_*.json")))
    assert again.status == 0, again.err


def test_a_whole_run_is_scored_again(reval, workplace, tmp_path):
    for path in (workplace.folder / "output", workplace.testing / "detections.json"):
        outcome = reval(path)
        assert outcome.status == 0, outcome.err
        assert _read(_merged(tmp_path) / "results.json") == _read(
            workplace.testing / "results.json"
        )


def test_any_coco_results_file_is_scored_without_images_or_catalog(truth, tmp_path):
    found = _perfect(truth)
    found[0] = {**found[0], "image_id": 1.0, "area": 3, "segmentation": []}
    foreign = {**found[0], "category_id": 77}
    _write(tmp_path / "whole.json", [*found, foreign])
    annotations = _write(tmp_path / "truth.json", truth)
    outcome = run_tool(
        "reval", tmp_path / "whole.json", "--dataset", "other", "--annotations", annotations,
        "--output-dir", tmp_path / "out",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    results = _read(tmp_path / "out" / "test" / "other" / "reval" / "results.json")
    assert results["AP"] == results["box"]["recall"] == _PERFECT_AP
    assert (
        "other: not scored: 1 of 17 detections, of classes that the annotations do not"
        in outcome.err
    )
    compared = run_tool(
        "compare_runs", "--baseline", tmp_path / "out", "--candidate", tmp_path / "out",
        "--names", "a", "b", "--annotations", annotations, "--output-dir", tmp_path / "compared",
    )  # fmt: skip
    assert compared.status == 0, compared.err


def test_missing_parts_are_named_or_left_out(reval, truth, tmp_path):
    folder = tmp_path / "parts"
    _write(folder / "detections_range_0_2.json", _perfect(truth, (1, 2)))
    _write(folder / "detections_range_4_6.json", _perfect(truth, (5, 6)))
    message = failure(reval(folder))
    assert message == (
        "4 of 8 images missing from the parts, first 2 to 3: test with --range 2 4, or score the "
        "other images with --partial"
    )
    assert not (tmp_path / "out").exists()
    outcome = reval(folder, "--partial")
    assert outcome.status == 0, outcome.err
    results = _read(_merged(tmp_path) / "results.json")
    assert results["AP"] == _PERFECT_AP
    assert results["untested_images"] == [3, 4, 7, 8] and results["num_images"] == 4
    assert "squares: 4 of 8 images were not tested" in outcome.err


def test_images_that_a_part_skipped_are_not_scored(tool, reval, workplace, truth, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in workplace.images.iterdir():
        if path.name not in ("2.png", "7.png"):
            (moved / path.name).write_bytes(path.read_bytes())
    (moved / "7.png").write_text("no image")
    entry = {"im_dir": str(moved), "ann_fn": str(workplace.folder / "squares/annotations.json")}
    for start, end in ((0, 4), (4, 9)):
        outcome = tool(
            "test_net", "--range", start, end, "TEST.WEIGHTS", workplace.weights, "OUTPUT_DIR",
            tmp_path / "parts", "DATASETS_EXTRA", {"squares": entry},
            "LIBRA.DATA.SKIP_BAD_IMAGES", "True",
        )  # fmt: skip
        assert outcome.status == 0, outcome.err
    assert reval(tmp_path / "parts").status == 0
    assert _read(_merged(tmp_path) / "results.json")["untested_images"] == [2, 7]


@pytest.mark.parametrize(
    "files, fault",
    [
        ({"detections_range_0_5.json": [], "detections_range_4_8.json": []}, "overlap"),
        ({"detections_range_0_8.json": [], "detections_range_8_9.json": []}, "holds no image"),
        ({"detections_range_0_8.json": [], "rpn_proposals_range_0_8.pkl": []}, "several kinds"),
        ({"detections_range_0_8.json": [], "detections.json": []}, "of a whole test and parts"),
        ({"detections_range_0_8.json": {}}, "not a list of COCO results"),
        ({"detections_range_0_8.json": [], "untested_range_0_8.json": {}}, "is not a list"),
        ({"detections_range_0_8.json": [], "untested_range_0_8.json": [9]}, "image 9"),
        ({"other.txt": []}, "has no finished test"),
    ],
)
def test_parts_that_do_not_fit_are_refused(reval, tmp_path, files, fault):
    for name, content in files.items():
        _write(tmp_path / "parts" / name, content)
    assert fault in failure(reval(tmp_path / "parts"))
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_fit_are_refused(reval, truth, tmp_path):
    found = _perfect(truth)
    one = _write(tmp_path / "one.json", found[:4])
    two = _write(tmp_path / "two.json", found[3:])
    part = _write(tmp_path / "detections_range_0_2.json", found[:4])
    wrong = _write(tmp_path / "detections_range_2_4.json", found[:4])
    unknown = _write(tmp_path / "unknown.json", [{**found[0], "image_id": "1"}])
    for paths, fault in (
        ([one, two], "both have results of image 2"),
        ([one, one], "both have results of image 1"),
        ([part, two], "is no part of a test"),
        ([part, wrong], "image 1, which is not in its range"),
        ([unknown], "image '1', which the annotations do not have"),
        ([tmp_path / "none.json"], "no such file or folder"),
    ):
        message = failure(reval(*paths, "--partial"))
        assert fault in message
        assert not (tmp_path / "out").exists()


def _as_upstream(truth, image_ids):
    """Detectron's detections of images: for each class, for each image, rows x1 y1 x2 y2 score."""
    by_class = [[np.zeros((0, 5), np.float32) for _ in image_ids] for _ in range(3)]
    for found in _perfect(truth, image_ids):
        x, y, w, h = found["bbox"]
        row = np.float32([[x, y, x + w - 1, y + h - 1, found["score"]]])
        place = by_class[found["category_id"]], list(image_ids).index(found["image_id"])
        place[0][place[1]] = np.concatenate([place[0][place[1]], row])
    return {"all_boxes": by_class}


def test_the_parts_of_a_test_of_detectron_are_merged(reval, truth, tmp_path):
    for start, end in ((0, 5), (5, 8)):
        content = _as_upstream(truth, range(start + 1, end + 1))
        (tmp_path / f"detection_range_{start}_{end}.pkl").write_bytes(pickle.dumps(content))
    assert reval(*tmp_path.glob("*.pkl")).status == 0
    assert _read(_merged(tmp_path) / "results.json")["AP"] == _PERFECT_AP
    assert len(_read(_merged(tmp_path) / "detections.json")) == 16
    whole = tmp_path / "detections.pkl"
    whole.write_bytes(pickle.dumps(_as_upstream(truth, range(1, 9))))
    assert reval(whole).status == 0
    assert _read(_merged(tmp_path) / "results.json")["AP"] == _PERFECT_AP


def test_the_parts_of_proposals_are_merged(tmp_path, truth):
    cfg = write_tiny_rcnn_config(tmp_path)
    only = ("MODEL.FASTER_RCNN", "False", "MODEL.RPN_ONLY", "True", "SOLVER.MAX_ITER", 1)
    assert run_tool("train_net", "--cfg", cfg, *only).status == 0
    folder = tmp_path / "output/test/squares/generalized_rcnn"
    for start, end in ((0, 3), (3, 8)):
        assert run_tool("test_net", "--cfg", cfg, "--range", start, end, *only).status == 0
    expected = _read(folder / "results.json")
    parts = sorted(folder.glob("rpn_proposals_range_*.pkl"))
    flags = ("--cfg", cfg, "--dataset", "squares", "--output-dir", tmp_path / "out")
    for paths in (parts, [folder / "rpn_proposals.pkl"]):
        outcome = run_tool("reval", *paths, *flags)
        assert outcome.status == 0, outcome.err
        assert _read(_merged(tmp_path) / "results.json") == expected
        assert "AR@100" in outcome.err
    assert "score one kind" in failure(
        run_tool("reval", folder / "rpn_proposals.pkl", _write(tmp_path / "d.json", []), *flags)
    )


def test_a_data_set_without_annotations_is_merged_and_not_scored(reval, truth, tmp_path):
    del truth["annotations"]
    path = _write(tmp_path / "found.json", [])
    outcome = reval(path, "--annotations", _write(tmp_path / "test.json", truth))
    assert outcome.status == 0
    assert "squares: not scored" in outcome.err
    assert [path.name for path in _merged(tmp_path).iterdir()] == ["detections.json"]
