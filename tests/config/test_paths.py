"""The home folder and environment variables in every path that a user gives."""

from __future__ import annotations

import os

import pytest

from detectron_ext import command_line, config, environment
from detectron_ext.config.keys import KEYS
from detectron_ext.data.catalog import resolve
from detectron_ext.errors import ConfigError, WeightsError
from detectron_ext.local_files import local_file

_PATHS = {name for name, key in KEYS.items() if key.is_path}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "elsewhere")
    return tmp_path


def _value(loaded, name):
    for part in name.split("."):
        loaded = loaded[part]
    return loaded


def test_every_key_of_a_path_is_marked():
    words = ("_DIR", "WEIGHTS", "_FILES", "_CACHE")
    others = {"TRAIN.COPY_WEIGHTS", "MODEL.BBOX_REG_WEIGHTS", "LIBRA.LOSS_WEIGHTS",
              "LIBRA.RETINANET_NEGATIVES.WEIGHTS"}  # fmt: skip
    named = {name for name in KEYS if name.endswith(words)} - others
    assert named | {"MATLAB"} == _PATHS


@pytest.mark.parametrize("name", sorted(_PATHS))
def test_paths_in_keys_are_expanded(name, home, tmp_path):
    many = isinstance(KEYS[name].default, tuple)
    given = "('~/a b.pkl', '$PLACE/c')" if many else "~/a b.pkl"
    expected = (f"{home}/a b.pkl", "elsewhere/c") if many else f"{home}/a b.pkl"
    assert _value(config.load(overrides=[name, given]), name) == expected
    assert _value(config.load().with_overrides([name, given]), name) == expected
    tree = given
    for part in reversed(name.split(".")):
        tree = {part: tree}
    (tmp_path / "c.yaml").write_text(str(tree))
    assert _value(config.load(str(tmp_path / "c.yaml")), name) == expected


@pytest.mark.parametrize(
    "path", ["imagenet://EfficientNetLite0", "https://a/b~c.pkl", "", "$NONE/a"]
)
def test_other_values_stay_as_they_are(path):
    assert path == config.load(overrides=["TRAIN.WEIGHTS", path]).TRAIN.WEIGHTS


@pytest.mark.parametrize("path", ["a\0b", "~\0", "$\0", "~\ud800", "a\ud800"])
def test_text_that_no_path_can_be_is_refused(path):
    with pytest.raises(ConfigError, match="is no path: (it holds a null|surrogates)"):
        config.load(overrides=["OUTPUT_DIR", repr(path)])


def test_bases_are_expanded(home, tmp_path):
    (home / "base.yaml").write_text("RNG_SEED: 7")
    child = tmp_path / "child.yaml"
    child.write_text("_BASE_: $HOME/base.yaml")
    assert config.load(str(child)).RNG_SEED == 7


def test_environment_variables_of_data_are_expanded(home, monkeypatch):
    (home / "cells").mkdir()
    monkeypatch.setenv(environment.BCCD_ROOT.name, "~/cells")
    assert resolve("bccd_train", config.load()).im_dir == f"{home}/cells/images"
    (home / "sets.yaml").write_text("mine: {im_dir: ~/images, ann_fn: $HOME/a.json}")
    monkeypatch.setenv(environment.DATASETS.name, "~/sets.yaml")
    entry = resolve("mine", config.load())
    assert (entry.im_dir, entry.ann_fn) == (f"{home}/images", f"{home}/a.json")


def test_weights_of_a_flag_are_expanded(home):
    (home / "w.pkl").write_bytes(b"")
    assert local_file("~/w.pkl", "weights", "", WeightsError) == f"{home}/w.pkl"
    with pytest.raises(WeightsError, match=f"not found: {home}/none.pkl"):
        local_file("~/none.pkl", "weights", "", WeightsError)


def test_flags_with_an_equals_sign_are_expanded(home):
    parser = command_line.make_parser("A tool.", "tools/x.py")
    parser.add_argument("--out")
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args(["--out=~/a", "b=~/c", "~"])
    assert arguments.out == os.path.join(str(home), "a")
    assert arguments.words == ["b=~/c", "~"]
