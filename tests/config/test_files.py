"""YAML files: merging, files that build on files, unreadable files, legacy dumps, round trips."""

from __future__ import annotations

import logging
import sys
import textwrap
import types

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectron_ext import config
from detectron_ext.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="x.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_file


def refusal(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_overrides_replace_values_of_the_file(write):
    path = write("TRAIN: {MAX_SIZE: 500, SCALES: [400]}\nSOLVER: {BASE_LR: 1e-2}\nTEST:\n")
    loaded = config.load(str(path), ["TRAIN.MAX_SIZE", "600"])
    assert (loaded.TRAIN.MAX_SIZE, loaded.TRAIN.SCALES) == (600, (400,))
    assert loaded.SOLVER.BASE_LR == 0.01
    assert loaded.TEST.MAX_SIZE == 1000


def test_on_without_quotes_is_a_key_and_not_a_bool(write):
    path = write("LIBRA: {BFP: {ON: True}, BALANCED_L1: {ON: on}}")
    loaded = config.load(path)
    assert loaded.LIBRA.BFP.ON is True
    assert loaded.LIBRA.BALANCED_L1.ON is True


def test_empty_value_of_a_string_key_is_the_empty_string(write):
    assert config.load(write("TRAIN:\n  WEIGHTS:\n")).TRAIN.WEIGHTS == ""


def test_yaml_anchors_and_merge_keys_are_read(write):
    path = write("TRAIN: &size {MAX_SIZE: 512}\nTEST: {<<: *size, SCALE: 300}\n")
    assert config.load(path).TEST.MAX_SIZE == 512


def test_repeated_key_is_logged_with_its_line(write, caplog):
    path = write("RNG_SEED: 1\nRNG_SEED: 2\n")
    with caplog.at_level(logging.WARNING):
        assert config.load(path).RNG_SEED == 2
    assert f"{path} line 2: key RNG_SEED appears twice" in caplog.text


def test_unknown_key_error_names_the_file_and_the_nearest_key(write):
    path = write("TRAIN: {SCALE: 3}")
    assert refusal(path) == f"unknown key TRAIN.SCALE in {path}; did you mean TRAIN.SCALES?"


@pytest.mark.parametrize(
    "text, key, nested",
    [
        ("SOLVER.MAX_ITER: 2", "SOLVER.MAX_ITER", "SOLVER: {MAX_ITER: ...}"),
        ("LIBRA: {BFP.ON: True}", "LIBRA.BFP.ON", "LIBRA: {BFP: {ON: ...}}"),
        ("LIBRA.BFP: {ON: True}", "LIBRA.BFP", "LIBRA: {BFP: ...}"),
        ("DATASETS_EXTRA.v1.0: {}", "DATASETS_EXTRA.v1.0", "DATASETS_EXTRA: {v1.0: ...}"),
        (
            "DATASETS_EXTRA.v1.0.im_dir: x",
            "DATASETS_EXTRA.v1.0.im_dir",
            "DATASETS_EXTRA: {v1.0: {im_dir: ...}}",
        ),
    ],
)
def test_dotted_key_in_a_file_is_refused_with_the_nested_form(write, text, key, nested):
    path = write(text)
    assert refusal(path) == f"key {key} in {path} is written with dots; write it nested: {nested}"


def test_deprecated_and_renamed_keys_in_a_file(write, caplog):
    path = write("RPN: {ON: True}\nUSE_GPU_NMS: True\n")
    with caplog.at_level(logging.WARNING):
        assert config.load(path) == config.load()
    assert f"ignoring the deprecated key RPN.ON in {path}" in caplog.text
    assert f"ignoring the deprecated key USE_GPU_NMS in {path}" in caplog.text
    message = refusal(write("TEST: {SCALES: [600]}"))
    assert message.startswith(f"key TEST.SCALES in {path} was renamed to TEST.SCALE; ")


def test_type_error_names_the_file(write):
    path = write("TRAIN: {MAX_SIZE: [1]}")
    assert refusal(path) == f"TRAIN.MAX_SIZE in {path} expects an int, given [1] (list)"


def test_base_is_relative_to_its_file_and_merged_first(write):
    write("TRAIN: {MAX_SIZE: 1, SCALES: [1]}\nRNG_SEED: 1", "bases/deep.yaml")
    write("_BASE_: deep.yaml\nTRAIN: {MAX_SIZE: 2}\nRNG_SEED: 2", "bases/middle.yaml")
    path = write("_BASE_: bases/middle.yaml\nRNG_SEED: 3")
    loaded = config.load(path)
    assert (loaded.RNG_SEED, loaded.TRAIN.MAX_SIZE, loaded.TRAIN.SCALES) == (3, 2, (1,))


def test_wrong_base_files_are_refused(write, tmp_path):
    path = write("_BASE_: none.yaml")
    missing = tmp_path / "none.yaml"
    assert refusal(path) == f"config file {missing} (_BASE_ of {path}) does not exist"
    assert "_BASE_" in refusal(write("_BASE_: [a]"))
    write("_BASE_: a.yaml", "b.yaml")
    circle = refusal(write("_BASE_: b.yaml", "a.yaml"))
    assert circle.endswith("leads in a circle: a.yaml -> b.yaml -> a.yaml")
    write("TRAIN: {SCALE: 3}", "wrong.yaml")
    assert f"TRAIN.SCALE in {tmp_path / 'wrong.yaml'};" in refusal(write("_BASE_: wrong.yaml"))


def test_missing_and_unreadable_files_and_folders_are_refused(tmp_path):
    assert refusal(tmp_path / "no.yaml") == f"config file {tmp_path / 'no.yaml'} does not exist"
    assert refusal(tmp_path).startswith(f"{tmp_path} is a folder, not a config file")
    assert "cannot be read" in refusal("a\0b.yaml")
    inside_a_file = tmp_path / "file"
    inside_a_file.write_text("")
    assert "cannot be read: Not a directory" in refusal(inside_a_file / "x.yaml")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("TRAIN:\n  A: [1\nB: 2\n", "line 3 is not valid YAML: "),
        ("TRAIN: {}\nX: !!python/object/apply:os.system ['true']\n", "line 2 is not valid YAML: "),
        ("A: 1\nB: !!python/object/new:subprocess.Popen {}\n", "line 2 is not valid YAML: an obj"),
        ("A: 1\n? [a]\n: 2\n", "line 2 is not valid YAML: a key must be plain text"),
        ("TRAIN: {SCALES: &a [*a]}", "is not valid YAML: "),
        ("A: 2020-13-40", "is not valid YAML: month must be"),
        pytest.param("[" * 1500, "is not valid YAML: nested too deeply", id="deep"),
        ("A: 'x\x00'", "is not valid YAML: unacceptable character"),
        ("- 1\n", "must be a map of keys such as TRAIN:, not a list"),
        ("hello", "must be a map of keys such as TRAIN:, not a str"),
        ("# nothing\n", "is empty: see configs/ for examples"),
    ],
)
def test_text_that_is_not_a_configuration_is_refused(write, text, expected):
    path = write(text)
    message = refusal(path)
    assert str(path) in message
    assert expected in message


def test_other_encodings(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("OUTPUT_DIR: é".encode("latin-1"))
    assert "is not valid YAML: " in refusal(path)
    path.write_bytes("OUTPUT_DIR: é".encode("utf-16"))
    assert config.load(path).OUTPUT_DIR == "é"


def test_dump_is_read_back_equal(write):
    overrides = ["PIXEL_MEANS", "(1, 2, 3)", "LIBRA.BFP.ON", "True", "TEST.WEIGHTS", "\"'q'\""]
    overrides += ["DATASETS_EXTRA", {"on": {"im_dir": "i", "ann_fn": "1"}}]
    overrides += ["EXPECTED_RESULTS", "[('a', 'box', 'AP', (0.1, 0.2))]"]
    loaded = config.load(overrides=overrides)
    assert config.load(write(config.dump_yaml(loaded), "dump.yaml")) == loaded


def test_dumps_of_legacy_configs_are_read_back_equal(write, shared_path):
    for path in shared_path("legacy/configs/test_time_aug").glob("*.yaml"):
        loaded = config.load(path)
        assert config.load(write(config.dump_yaml(loaded), "dump.yaml")) == loaded


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
@given(
    text=st.text(
        st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
    ),  # no path holds a null character
    seed=st.integers(0, 10**6),
    rate=st.floats(0, 1),
)
def test_any_text_and_number_survive_a_dump(write, text, seed, rate):
    given_values = ["OUTPUT_DIR", repr(text), "RNG_SEED", seed, "SOLVER.BASE_LR", rate]
    loaded = config.load(overrides=[*given_values, "TRAIN.PROPOSAL_FILES", (text, "b")])
    assert config.load(write(config.dump_yaml(loaded), "dump.yaml")) == loaded


PYTHON_2_DUMP = r"""
!!python/object/new:utils.collections.AttrDict
dictitems:
  BBOX_XFORM_CLIP: !!python/object/apply:numpy.core.multiarray.scalar
  - &id001 !!python/object/apply:numpy.dtype
    args: [f8, 0, 1]
    state: !!python/tuple [3, <, null, null, null, -1, -1, 0]
  - !!binary |
    qeISGmmKEEA=
  SEED: !!python/object/apply:numpy.core.multiarray.scalar
  - !!python/object/apply:numpy.dtype
    args: [i8, 0, 1]
    state: !!python/tuple [3, <, null, null, null, -1, -1, 0]
  - "\x04\0\0\0\0\0\0\0"
  TRAIN: !!python/object/new:utils.collections.AttrDict
    dictitems:
      DATASETS: !!python/tuple [!!python/str coco_2014_train, !!python/unicode 'b']
      MAX: !!python/long 7
    state: {__immutable__: true}
state: {__immutable__: true}
"""


def test_legacy_dump_of_python_2_is_read():
    assert config.load_legacy_yaml(PYTHON_2_DUMP) == {
        "BBOX_XFORM_CLIP": np.log(62.5),
        "SEED": 4,
        "TRAIN": {"DATASETS": ("coco_2014_train", "b"), "MAX": 7},
    }


def test_legacy_dump_of_this_python_is_read(monkeypatch):
    def set_state(self):
        self.__dict__["__immutable__"] = True

    module = types.ModuleType("detectron.utils.collections")
    attr_dict = type("AttrDict", (dict,), {"__module__": module.__name__, "freeze": set_state})
    module.AttrDict = attr_dict
    for name in ("detectron", "detectron.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    by_columns = np.arange(6, dtype=np.int32).reshape(2, 3, order="F")
    empty = attr_dict()
    tree = attr_dict(
        EMPTY=empty,
        ARRAYS=attr_dict(A=by_columns, B=by_columns.T, C=np.ones((1, 1, 3))),
        SCALARS=[np.float32(0.5), np.bool_(True), np.int64(-1), np.array(2.0)],
        ON=True,
        PAIR=(1, "x"),
    )
    for node in (empty, tree):
        node.freeze()
    for text in (yaml.dump(tree), yaml.dump(tree).encode()):
        loaded = config.load_legacy_yaml(text)
        assert loaded == {
            "EMPTY": {},
            "ARRAYS": {"A": by_columns.tolist(), "B": by_columns.T.tolist(), "C": [[[1, 1, 1]]]},
            "SCALARS": [0.5, True, -1, 2.0],
            "ON": True,
            "PAIR": (1, "x"),
        }


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch executed']",
        "A: !!python/name:os.system ''",
        "A: !!python/module:os ''",
        "A: !!python/object/new:os.AttrDict.Popen {}",
        "A: !!python/object/apply:numpy.dtype {args: [O, 0, 1], state: [3, '|']}",
        "A: !!python/object/apply:numpy.core.multiarray.scalar [x, 3]",
        "A: !!python/object/apply:numpy.core.multiarray._reconstruct {}",
        "- 1",
        "A: [",
    ],
)
def test_reading_legacy_text_runs_no_code(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="^the stored configuration"):
        config.load_legacy_yaml(text)
    assert not list(tmp_path.iterdir())
