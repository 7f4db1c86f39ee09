from __future__ import annotations

import json
import logging
import os
import sys
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from detectron_ext.engine import statistics
from detectron_ext.errors import UserError


@pytest.mark.parametrize("has_bar", [False, True])
def test_a_full_output_does_not_stop_the_statistics_file(
    tmp_path, monkeypatch, caplog, capfd, has_bar
):
    class Bar(tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": not has_bar})

    monkeypatch.setattr(statistics, "tqdm", Bar)
    path = tmp_path / "stats.jsonl"
    stats = statistics.TrainingStatistics(["loss_cls"], [], 3, 1, str(path))
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        with caplog.at_level(logging.INFO):
            for iteration in range(3):
                stats.update({"loss_cls": 1.0}, 0, {})
                stats.log(iteration, 0.1)
    stats.close()
    assert [json.loads(line)["iter"] for line in path.read_text().splitlines()] == [0, 1, 2]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot write to standard output (No space left on device)" in record.message
    assert str(path) in record.message
    assert ("loss 1.000" in capfd.readouterr().err) == has_bar


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_on_resuming_keeps_the_earlier_lines(tmp_path, monkeypatch, fault):
    path = tmp_path / "stats.jsonl"
    lines = "".join(json.dumps({"iter": number, "seconds": 1.0}) + "\n" for number in range(6))
    path.write_text(lines)

    def fail(*_):
        raise fault

    # The system may refuse to write the file, or to give it its name.
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises((UserError, KeyboardInterrupt)):
            statistics.TrainingStatistics(["loss"], [], 9, 1, str(path), start_iter=4)
    assert path.read_text() == lines
    statistics.TrainingStatistics(["loss"], [], 9, 1, str(path), start_iter=4).close()
    assert [json.loads(line)["iter"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "-3", "9" * 3000, "1e999"])
def test_a_damaged_number_of_skipped_steps_counts_as_none(tmp_path, number):
    path = tmp_path / "stats.jsonl"
    path.write_text(
        f'{{"iter": 1, "skipped_steps": 2}}\n{{"iter": 2, "skipped_steps": {number}}}\n'
    )
    kept = statistics.TrainingStatistics(["loss"], [], 9, 1, str(path), start_iter=5)
    kept.close()
    assert kept.total_skipped == 2


def test_the_seconds_that_steps_wait_for_images_are_summed(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, process_time=lambda: 0.0)
    monkeypatch.setattr(statistics, "time", fake)
    path = tmp_path / "stats.jsonl"
    stats = statistics.TrainingStatistics(["loss_cls"], [], 4, 2, str(path))
    for iteration, waits in enumerate((3.0, 0.5, 0.25, 0.0)):
        stats.start_step()
        clock.now += waits
        stats.end_waiting()
        clock.now += 1.0
        stats.update({"loss_cls": 1.0}, 0, {})
        stats.log(iteration, 0.1)
    stats.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["iter"], line["wait_seconds"]) for line in lines] == [(0, 3), (2, 0.75), (3, 0)]
    assert stats.total_waited == 3.75
