"""The tools with two-stage detectors; the same tools with RetinaNet are tested at length."""

from __future__ import annotations

import json

import pytest
from squares import write_tiny_rcnn_config
from tool_runner import failure, run_tool

_RPN = ("MODEL.FASTER_RCNN", False, "MODEL.RPN_ONLY", True)
_FAST = ("MODEL.FASTER_RCNN", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Faster R-CNN of two iterations, trained and tested by tools/train_net.py."""
    folder = tmp_path_factory.mktemp("two_stage")
    outcome = run_tool("train_net", "--cfg", write_tiny_rcnn_config(folder), "SOLVER.MAX_ITER", 2)
    assert outcome.status == 0, outcome.err
    return folder


def _tool(folder, name, *arguments):
    return run_tool(name, "--cfg", folder / "tiny.yaml", *arguments)


def test_faster_rcnn_is_trained_tested_run_and_drawn(folder, tmp_path):
    place = "squares/generalized_rcnn"
    assert (folder / "output" / "test" / place / "results.json").exists()
    weights = folder / "output" / "train" / place / "model_final.pkl"
    outcome = _tool(
        folder, "infer_simple", "--wts", weights, "--output-dir", tmp_path / "out", "--thresh", 0,
        folder / "squares" / "images" / "1.png", "TEST.SCORE_THRESH", 0.0,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["1.png"]
    outcome = _tool(
        folder, "visualize_results", "--dataset", "squares", "--first", 2, "--output-dir",
        tmp_path / "drawn", "--detections", folder / "output" / "test" / place / "detections.json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert len(list((tmp_path / "drawn").iterdir())) == 2


def test_the_log_has_statistics_of_both_samplers(folder):
    path = folder / "output" / "train" / "squares" / "generalized_rcnn" / "stats.jsonl"
    stats = json.loads(path.read_text().splitlines()[0])
    for sampler in ("rpn", "roi"):
        shares = [stats[f"{sampler}_negative_share_bin{index}"] for index in range(3)]
        assert sum(shares) == pytest.approx(1)
        assert stats[f"{sampler}_positives_per_instance"] > 0


def test_the_recall_of_an_rpn_is_printed(folder, tmp_path):
    outcome = _tool(folder, "train_net", *_RPN, "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path)
    assert outcome.status == 0, outcome.err
    assert "AR@100 " in outcome.err and "rpn_proposals.pkl" in outcome.err
    page = tmp_path / "comparison"
    run = ("--baseline", tmp_path, "--candidate", folder / "output", "--output-dir", page)
    assert "has only proposals (MODEL.RPN_ONLY)" in failure(_tool(folder, "compare_runs", *run))
    assert not page.exists()


def test_an_rpn_without_an_image_finds_nothing(folder, tmp_path):
    content = json.loads((folder / "squares" / "annotations.json").read_text())
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({**content, "images": [], "annotations": []}))
    weights = folder / "output" / "train" / "squares" / "generalized_rcnn" / "model_final.pkl"
    outcome = _tool(
        folder, "test_net", *_RPN, "TEST.WEIGHTS", weights, "OUTPUT_DIR", tmp_path,
        "DATASETS_EXTRA.squares.ann_fn", path,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    results = json.loads(next(tmp_path.rglob("results.json")).read_text())
    assert results["num_proposals"] == 0 and results["AR@100"] is None


def test_an_rpn_is_not_scored_without_annotations(folder, tmp_path):
    content = json.loads((folder / "squares" / "annotations.json").read_text())
    del content["annotations"]
    path = tmp_path / "unknown.json"
    path.write_text(json.dumps(content))
    weights = folder / "output" / "train" / "squares" / "generalized_rcnn" / "model_final.pkl"
    outcome = _tool(
        folder, "test_net", *_RPN, "TEST.WEIGHTS", weights, "OUTPUT_DIR", tmp_path,
        "DATASETS_EXTRA.squares.ann_fn", path,
    )  # fmt: skip
    assert outcome.status == 0 and "squares: not scored" in outcome.err
    assert [path.name for path in tmp_path.glob("test/*/*/*")] == ["rpn_proposals.pkl"]


def test_mistakes_give_one_line_errors(folder, tmp_path):
    arguments = ("--skip-test", *_FAST, "OUTPUT_DIR", tmp_path)
    assert "TRAIN.PROPOSAL_FILES" in failure(_tool(folder, "train_net", *arguments))
    url = "('https://host/rpn_proposals.pkl',)"
    outcome = _tool(folder, "train_net", *arguments, "TRAIN.PROPOSAL_FILES", url)
    assert "fetch rpn_proposals.pkl yourself" in failure(outcome)
    image = folder / "squares" / "images" / "1.png"
    outcome = _tool(
        folder, "infer_simple", "--wts", "none.pkl", "--output-dir", tmp_path, image, *_RPN
    )
    assert "RPN_ONLY" in failure(outcome)
