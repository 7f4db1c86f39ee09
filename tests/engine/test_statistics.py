from __future__ import annotations

import json
import logging
import sys

import pytest
from tqdm import tqdm

from detectron_ext.engine import statistics


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
