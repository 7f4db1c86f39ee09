"""The record of one finished run."""

from __future__ import annotations

import pytest
from tested_run import write_test

from detectron_ext import config as configuration
from detectron_ext.errors import UserError
from detectron_ext.experiments.record import write_record
from detectron_ext.experiments.spec import Run


def test_a_test_that_was_not_scored_has_no_scores(tmp_path):
    run = Run("", None, "plain", 1, "cats.yaml", (), "plain/seed1")
    overrides = ["OUTPUT_DIR", str(tmp_path), "TRAIN.DATASETS", ("cats_train",)]
    overrides += ["TEST.DATASETS", ("cats_val", "cats_test"), "MODEL.TYPE", "retinanet"]
    config = configuration.load(overrides=overrides)
    log = tmp_path / "train" / "cats_train" / "retinanet" / "stats.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"iter": 0, "seconds": 2.5}\n')
    write_test(tmp_path, {"detections.json": [], "results.json": {"AP": 0.5}})
    unscored = write_test(tmp_path, {"detections.json": []}, "cats_test")
    record = write_record(str(tmp_path), run, config, {})
    assert record["metrics"] == {"cats_val": {"AP": 0.5}, "cats_test": None}
    (unscored / "detections.json").unlink()
    with pytest.raises(UserError, match="left no results in .*cats_test"):
        write_record(str(tmp_path), run, config, {})
