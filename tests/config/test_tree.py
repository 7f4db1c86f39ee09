"""The loaded configuration as an object, and the folder it names."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest

from detectron_ext import config
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.output_files import check_writable_folder, make_writable_folder


@pytest.fixture(scope="module")
def loaded():
    return config.load(overrides=["SOLVER.STEPS", "[0, 5]", "LIBRA.BFP.ON", "True"])


def test_attributes_and_items_have_the_same_values(loaded):
    assert isinstance(loaded, dict)
    assert loaded.LIBRA.BFP.ON is loaded["LIBRA"]["BFP"]["ON"] is True
    assert not hasattr(loaded, "NOTHING")
    with pytest.raises(AttributeError, match="no key TRIAN"):
        loaded.TRIAN  # noqa: B018


@pytest.mark.parametrize(
    "change",
    [
        lambda node: setattr(node, "RNG_SEED", 1),
        lambda node: delattr(node, "RNG_SEED"),
        lambda node: node.__setitem__("RNG_SEED", 1),
        lambda node: node.__delitem__("RNG_SEED"),
        lambda node: node.update(RNG_SEED=1),
        lambda node: node.pop("RNG_SEED"),
        lambda node: node.popitem(),
        lambda node: node.setdefault("NEW", 1),
        lambda node: node.clear(),
        lambda node: setattr(node.TRAIN, "MAX_SIZE", 1),
        lambda node: node.LIBRA.BFP.update(ON=False),
    ],
)
def test_nothing_can_be_changed(loaded, change):
    before = loaded.copy()
    with pytest.raises(AttributeError, match="cannot be changed; use with_overrides"):
        change(loaded)
    assert loaded == before


def test_pixel_means_are_read_only(loaded):
    with pytest.raises(ValueError, match="read-only"):
        loaded.PIXEL_MEANS[0] = 1


@pytest.mark.parametrize(
    "twin", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy, copy.copy]
)
def test_copies_are_equal_and_still_read_only(loaded, twin):
    other = twin(loaded)
    assert other == loaded
    assert (other != loaded) is False
    assert type(other) is config.Config
    assert type(other.TRAIN) is config.ConfigNode
    with pytest.raises(AttributeError):
        other.TRAIN.MAX_SIZE = 1
    with pytest.raises(ValueError, match="read-only"):
        other.PIXEL_MEANS[0] = 1


def test_equality_compares_arrays_and_nested_values(loaded):
    assert loaded.with_overrides(["PIXEL_MEANS", "(1, 2, 3)"]) != loaded
    assert loaded.with_overrides(["LIBRA.BFP.REFINE_TYPE", "none"]) != loaded
    assert loaded.with_overrides([]) == loaded
    assert loaded != 3


def test_with_overrides_leaves_the_original(loaded):
    other = loaded.with_overrides(["TRAIN.MAX_SIZE", "7", "MODEL.FASTER_RCNN", "True"])
    assert (other.TRAIN.MAX_SIZE, loaded.TRAIN.MAX_SIZE) == (7, 1000)
    assert other.RPN.RPN_ON is True
    assert other.LIBRA.BFP.ON is True
    assert other.SOLVER.STEPS is not loaded.SOLVER.STEPS
    with pytest.raises(ConfigError, match="LIBRA.BFP.REFINE_TYPE must be one of"):
        loaded.with_overrides(["LIBRA.BFP.REFINE_TYPE", "x"])


def test_copy_is_an_ordinary_dict(loaded):
    tree = loaded.copy()
    tree["TRAIN"]["MAX_SIZE"] = 1
    tree["SOLVER"]["STEPS"].append(9)
    tree["PIXEL_MEANS"][0] = 0
    assert type(tree["TRAIN"]) is dict
    assert loaded.TRAIN.MAX_SIZE == 1000
    assert loaded.SOLVER.STEPS == [0, 5]
    assert np.all(loaded.PIXEL_MEANS > 0)


@pytest.mark.parametrize(
    "datasets, training, expected",
    [
        (("a", "b"), True, "train/a:b/retinanet"),
        (["a"], False, "test/a/retinanet"),
        ("a", False, "test/a/retinanet"),
    ],
)
def test_output_dir_is_the_folder_of_the_run(tmp_path, datasets, training, expected):
    settings = config.load(overrides=["OUTPUT_DIR", str(tmp_path), "MODEL.TYPE", "retinanet"])
    folder = config.output_dir(settings, datasets, training)
    assert folder == str(tmp_path / expected)
    assert os.path.isdir(folder)
    assert config.output_dir(settings, datasets, training) == folder


def test_the_path_of_the_output_dir_is_known_and_checked_before_it_is_made(tmp_path):
    settings = config.load(overrides=["OUTPUT_DIR", str(tmp_path), "MODEL.TYPE", "m"])
    folder = config.run_folder(settings, "a", True)
    assert config.future_output_dir(settings, "a", True) == folder == f"{tmp_path}/train/a/m"
    assert not list(tmp_path.iterdir())
    assert config.output_dir(settings, "a", True) == folder and os.path.isdir(folder)


@pytest.mark.parametrize(
    "path, reason",
    [
        ("file/x", "Not a directory"),
        ("file", "File exists"),
        ("dangling", "File exists"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_folder_that_could_not_be_written_is_named_before_it_is_made(tmp_path, path, reason):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    message = f"^cannot write logs to {tmp_path}/{path}: {reason}; choose another$"
    for check in (check_writable_folder, make_writable_folder):
        with pytest.raises(UserError, match=message):
            check(str(tmp_path / path), "logs to", "choose another")


def test_output_dir_that_cannot_be_created_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    settings = config.load(overrides=["OUTPUT_DIR", str(file), "MODEL.TYPE", "m"])
    with pytest.raises(UserError) as caught:
        config.output_dir(settings, "a", True)
    message = f"cannot write to the output folder {file}/train/a/m: Not a directory; set OUTPUT_DIR"
    assert str(caught.value).startswith(message)


def test_output_dir_without_permission_is_refused(tmp_path, monkeypatch):
    settings = config.load(overrides=["OUTPUT_DIR", str(tmp_path)])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission; set OUTPUT_DIR to another folder"):
        config.output_dir(settings, "a", True)
