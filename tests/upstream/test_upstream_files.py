"""Files that upstream reads with the adapter installed: pickles, and data sets of a config."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from squares import make_squares

from detectron_ext.errors import DatasetError, WeightsError


class _Command:
    def __init__(self, folder):
        self._folder = folder

    def __reduce__(self):
        return os.mkdir, (self._folder,)


def test_a_pickle_with_code_is_refused_before_it_runs(cfg, tmp_path):
    from detectron.utils import io, net

    marker, path = str(tmp_path / "made"), tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": _Command(marker)}}))
    for load in (io.load_object, lambda name: net.initialize_gpu_from_weights_file(None, name)):
        with pytest.raises(WeightsError, match="names posix.mkdir; only arrays"):
            load(str(path))
    assert not os.path.exists(marker)


def test_a_file_that_upstream_saved_is_read_and_saved_again(cfg, tmp_path):
    from detectron.utils.io import load_object, save_object

    path = tmp_path / "detections.pkl"
    saved = {
        "all_boxes": [[], [np.arange(10, dtype=np.float32).reshape(2, 5)]],
        "all_segms": [[], [[{"size": [4, 5], "counts": b"\x01\xfe"}]]],
        "cfg": "A: 1",
        "ids": [np.int64(3)],
    }
    save_object(saved, str(path))
    for read in (load_object, lambda name: pickle.loads(path.read_bytes(), encoding="latin1")):
        found = read(str(path))
        np.testing.assert_array_equal(found["all_boxes"][1][0], saved["all_boxes"][1][0])
        assert all(found[key] == saved[key] for key in ("all_segms", "cfg", "ids"))
        save_object(found, str(path))
    assert b"detectron_ext" not in path.read_bytes()


@pytest.mark.parametrize("named_by", ["config", "environment"])
def test_data_sets_of_a_configuration_are_found(cfg, tmp_path, monkeypatch, named_by):
    """Paths may hold variables and a prefix; DETECTRON_EXT_DATASETS may name the file."""
    from detectron.datasets import dataset_catalog, task_evaluation
    from detectron.datasets.json_dataset import JsonDataset

    data = make_squares(tmp_path, 2)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert data["im_dir"].startswith(str(tmp_path))
    entry = {key: data[key].replace(str(tmp_path), "$FOLDER") for key in ("im_dir", "ann_fn")}
    entry["im_prefix"] = "a_"
    if named_by == "config":
        cfg.DATASETS_EXTRA["mine"] = entry
    else:
        (tmp_path / "catalog.yaml").write_text(f"mine: {entry}")
        monkeypatch.setenv("DETECTRON_EXT_DATASETS", str(tmp_path / "catalog.yaml"))
    assert dataset_catalog.contains("mine") and not dataset_catalog.contains("other")
    dataset = JsonDataset("mine")
    assert dataset.image_directory == data["im_dir"] and dataset.image_prefix == "a_"
    assert task_evaluation._use_json_dataset_evaluator(dataset)


def test_an_incomplete_data_set_is_named(cfg):
    from detectron.datasets.json_dataset import JsonDataset

    cfg.DATASETS_EXTRA["mine"] = {"im_dir": "/images"}
    with pytest.raises(DatasetError, match="mine needs a path for ann_fn"):
        JsonDataset("mine")
