"""Warnings that the data of a run have changed since its weights were trained."""

from __future__ import annotations

import json
import logging
import os
import pickle

import numpy as np
import pytest

from detectron_ext.data.data_record import changes, data_record, file_record, valid_record
from detectron_ext.data.records import training_records
from detectron_ext.engine.checkpoints import checkpoint_path
from detectron_ext.engine.train import train
from detectron_ext.engine.weights_file import read_weights, write_weights
from detectron_ext.errors import DatasetError


def _annotations(tmp_path):
    return tmp_path / "squares" / "annotations.json"


def _edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _without_last_box(content):
    content["annotations"].pop()


def _warnings(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("detectron_ext")
    ]


@pytest.fixture
def run(tiny_config):
    """Four iterations with a checkpoint after the third; returns configuration and weights."""
    config = tiny_config("SOLVER.MAX_ITER", 4)
    return config, train(config)


def test_weights_hold_digest_and_counts(run):
    _, final = run
    for path in (final, checkpoint_path(os.path.dirname(final), 2)):
        data = read_weights(path).data
        assert data.keys() == {"squares"}
        assert (data["squares"]["images"], data["squares"]["boxes"]) == (8, 16)
        assert len(data["squares"]["annotations"]) == 64


def test_unchanged_data_are_no_warning(run, caplog):
    config, final = run
    os.remove(final)
    train(config)
    train(config)
    assert _warnings(caplog) == []


def test_a_resumed_run_warns_of_changed_data(run, tmp_path, caplog):
    config, final = run
    os.remove(final)
    _edit(_annotations(tmp_path), _without_last_box)
    train(config)
    (message,) = _warnings(caplog)
    checkpoint = checkpoint_path(os.path.dirname(final), 2)
    assert message == (
        f"the data have changed since {checkpoint} was trained: squares has another annotation "
        "file (then 8 images and 16 boxes; now 8 and 15); training goes on with those of today"
    )
    assert read_weights(final).data["squares"]["boxes"] == 15


def test_a_finished_run_warns_of_changed_data(run, tmp_path, caplog):
    config, final = run
    before = os.stat(final).st_mtime_ns
    _edit(_annotations(tmp_path), _without_last_box)
    assert train(config) == final and os.stat(final).st_mtime_ns == before
    (message,) = _warnings(caplog)
    assert message == (
        f"the data have changed since {final} was trained: squares has another annotation file "
        "(then 8 images and 16 boxes; now 8 and 15); the weights are used unchanged, and "
        "TRAIN.AUTO_RESUME False trains them anew"
    )


def test_a_finished_run_whose_data_cannot_be_read_says_so(run, tmp_path, caplog):
    config, final = run
    _annotations(tmp_path).write_text("{}")
    assert train(config) == final
    unreadable, changed = _warnings(caplog)
    assert unreadable.startswith("the training data cannot be read: ")
    assert changed.startswith(f"the data have changed since {final} was trained: squares has")
    caplog.clear()
    _annotations(tmp_path).unlink()
    assert train(config) == final
    (message,) = _warnings(caplog)
    assert "cannot be compared with those of today: cannot read" in message


def test_weights_without_a_digest_are_not_compared(run, tmp_path, caplog):
    config, final = run
    write_weights(final, read_weights(final)._replace(data=None))
    _edit(_annotations(tmp_path), _without_last_box)
    with caplog.at_level(logging.INFO, "detectron_ext"):
        train(config)
    assert f"{final} holds no digest of its training data: they are not compared" in caplog.text
    assert _warnings(caplog) == []


def test_missing_images_are_a_change(run, tmp_path, caplog):
    config, final = run
    os.remove(final)
    (tmp_path / "squares" / "images" / "3.png").unlink()
    train(config.with_overrides(["LIBRA.DATA.SKIP_BAD_IMAGES", "True"]))
    assert "squares has other counts (then 8 images and 16 boxes; now 7 and 14)" in caplog.text


def test_a_folder_of_annotations_has_a_digest(tiny_config, tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "1.txt").write_text("a")
    config = tiny_config("DATASETS_EXTRA.squares.ann_fn", str(folder))
    first = file_record(config, None)
    assert file_record(config, None) == first
    (folder / "1.txt").rename(folder / "2.txt")
    assert file_record(config, None) != first
    with pytest.raises(DatasetError, match="cannot read .*none.json"):
        file_record(tiny_config("DATASETS_EXTRA.squares.ann_fn", str(tmp_path / "none.json")), None)


def test_proposals_are_compared_too(tiny_config, tmp_path):
    config = tiny_config()
    records, _ = training_records(config.TRAIN.DATASETS, config)
    files = [str(tmp_path / name) for name in ("a.pkl", "b.pkl")]
    for number, file in enumerate(files):
        with open(file, "wb") as out:
            pickle.dump(number, out)
    stored, now = (data_record(config, [file], records) for file in files)
    assert changes(stored, stored) == []
    assert changes(stored, now) == [
        "squares has another proposals file (then 8 images and 16 boxes; now 8 and 16)"
    ]
    assert changes(stored, data_record(config, None, records)) == []


@pytest.mark.parametrize(
    "value", [None, 3, {"a": 3}, {"a": {"images": np.zeros(2)}}, {"a": {"boxes": None}}]
)
def test_entries_of_another_form_are_no_record(value):
    assert valid_record(value) is None
