"""Files that the first version of this project wrote are still read: see old_files/README.md."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from squares import REPOSITORY

from detectron_ext.commands.train_and_test import test as run_test
from detectron_ext.config import load
from detectron_ext.engine.train import train
from detectron_ext.engine.weights_file import read_weights

sys.path.insert(0, str(REPOSITORY / "tests" / "tools"))
from tool_runner import run_tool

_RUN = Path("output/train/squares/retinanet")
_TEST = Path("output/test/squares/retinanet")


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """The old files; the current folder is theirs."""
    with tarfile.open(str(REPOSITORY / "tests/old_files/first_version.tar.xz")) as archive:
        archive.extractall(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_old_weights_are_read(old):
    weights = read_weights(str(_RUN / "model_final.pkl"))
    assert weights.classes == ["__background__", "square", "disc"]
    assert weights.blobs["bfp_theta_w"].shape == (8, 8, 1, 1)
    assert "WIDTH_PER_GROUP: 4" in weights.cfg


def test_old_finished_training_is_not_repeated(old):
    before = (old / _RUN / "model_final.pkl").stat().st_mtime_ns
    train(load("tiny.yaml"))
    assert (old / _RUN / "model_final.pkl").stat().st_mtime_ns == before


def test_an_old_checkpoint_is_resumed(old, caplog):
    """With the same result as the old version had, within what other operators change."""
    before = read_weights(str(_RUN / "model_final.pkl")).blobs
    (old / _RUN / "model_final.pkl").unlink()
    caplog.set_level("INFO")
    after = read_weights(train(load("tiny.yaml"))).blobs
    assert f"resuming from {_RUN}/model_iter1.pkl at iteration 2" in caplog.text
    assert before.keys() == after.keys()
    for name, blob in before.items():
        np.testing.assert_allclose(after[name], blob, atol=2e-5, err_msg=name)
    lines = [json.loads(line) for line in (old / _RUN / "stats.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines][-1] == 3


def test_old_weights_are_tested_with_the_same_detections(old):
    before = json.loads((old / _TEST / "detections.json").read_text())
    results = json.loads((old / _TEST / "results.json").read_text())
    again = run_test(load("tiny.yaml"))["squares"]
    after = json.loads((old / _TEST / "detections.json").read_text())
    assert len(before) == len(after) > 0
    for old_one, new_one in zip(before, after):
        assert old_one["image_id"] == new_one["image_id"]
        np.testing.assert_allclose(new_one["bbox"], old_one["bbox"], atol=0.01)
        np.testing.assert_allclose(new_one["score"], old_one["score"], atol=1e-4)
    assert {key: again[key] for key in results} == results


def test_old_runs_are_compared(old):
    outcome = run_tool(
        "compare_runs",
        "--baseline",
        "output",
        "--candidate",
        "output",
        "--cfg",
        "tiny.yaml",
        "--resamples",
        20,
    )
    assert outcome.status == 0, outcome.err
    assert "AP50" in outcome.out


def test_an_old_sweep_is_finished_and_reported(old):
    # The report asks only whether there are weights.
    for stats in old.rglob("sweeps/**/stats.jsonl"):
        shutil.copy(str(_RUN / "model_final.pkl"), str(stats.with_name("model_final.pkl")))
    outcome = run_tool("sweep", "sweep.yaml", "--results", "sweeps", "--report", "page.md")
    assert outcome.status == 0, outcome.err
    page = (old / "page.md").read_text()
    assert "| libra (2) |" in page and "| plain (2) |" in page
    outcome = run_tool("sweep", "sweep.yaml", "--results", "sweeps")
    assert outcome.status == 0 and "4 of 4 runs are done" in outcome.err
