"""Event files for TensorBoard."""

from __future__ import annotations

import json
import math

import pytest
from squares import write_tiny_config

from detectron_ext import config as configuration
from detectron_ext import optional_packages
from detectron_ext.commands.train_and_test import train_and_test
from detectron_ext.engine.tensorboard_events import FOLDER, EventFile
from detectron_ext.errors import UserError

loader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_file_loader",
    reason="needs tensorboard (pip install tensorboard)",
)


def _read(folder):
    """(step, tag) to value, and the steps at which a process started again."""
    values, starts = {}, []
    for path in sorted((folder / FOLDER).iterdir()):
        for event in loader.LegacyEventFileLoader(str(path)).Load():
            if event.HasField("session_log"):
                starts.append(event.step)
            for value in event.summary.value:
                values[event.step, value.tag] = value.simple_value
    return values, starts


def test_numbers_are_written_and_texts_are_not(tmp_path):
    events = EventFile(str(tmp_path))
    events.add(7, {"loss": 2.5, "fl_fpn3": 1.5, "lr": 0.5, "eta": "0:01", "iter": 7, "share": 1})
    events.add(9, {"AP": 0.25}, group="test a")
    events.close()
    assert _read(tmp_path) == (
        {(7, "losses/loss"): 2.5, (7, "losses/fl_fpn3"): 1.5, (7, "run/lr"): 0.5,
         (7, "sampling/share"): 1.0, (9, "test a/AP"): 0.25}, [],
    )  # fmt: skip


def test_resumed_run_says_where_it_starts(tmp_path):
    EventFile(str(tmp_path), start_iter=5).close()
    assert _read(tmp_path) == ({}, [5])


def test_training_writes_its_statistics_and_scores(tmp_path):
    path = write_tiny_config(tmp_path)
    keys = ["LIBRA.TENSORBOARD", True, "LIBRA.LOG_PERIOD", 1, "SOLVER.MAX_ITER", 2, "NUM_GPUS", 0]
    results = train_and_test(configuration.load(str(path), keys))
    (folder,) = [found.parent for found in tmp_path.rglob(FOLDER)]
    values, _ = _read(folder)
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    for line in lines:
        assert math.isclose(values[line["iter"], "losses/loss"], line["loss"], rel_tol=1e-6)
        assert math.isclose(values[line["iter"], "run/lr"], line["lr"], rel_tol=1e-6)
    assert math.isclose(values[2, "test squares/AP"], results["squares"]["AP"], abs_tol=1e-6)


def test_missing_package_is_named(tmp_path, monkeypatch):
    def fail(name):
        raise ImportError("No module named 'tensorboard'")

    monkeypatch.setattr(optional_packages.importlib, "import_module", fail)
    with pytest.raises(UserError, match="LIBRA.TENSORBOARD True needs .*: pip install tensorboard"):
        EventFile(str(tmp_path))
