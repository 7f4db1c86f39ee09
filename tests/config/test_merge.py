"""Overrides: they are decoded and converted to the type of the key, or refused with a message."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detectron_ext import config
from detectron_ext.config.dotted import value_at
from detectron_ext.config.paths import expand_path
from detectron_ext.errors import ConfigError, UserError

numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
path_text = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
)  # no path holds a null character


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        config.load(overrides=list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "key, text, expected",
    [
        ("TRAIN.MAX_SIZE", "512", 512),
        ("TRAIN.SCALES", "(400, 500)", (400, 500)),
        ("TRAIN.SCALES", "[400, 500]", (400, 500)),
        ("SOLVER.STEPS", "(0, 10)", [0, 10]),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("TRAIN.USE_FLIPPED", "False", False),
        ("TRAIN.DATASETS", "('a', 'b')", ("a", "b")),
        ("EXPECTED_RESULTS", "(('a', 'box', 'AP', (0.1, 0.2)),)", [["a", "box", "AP", [0.1, 0.2]]]),
        ("LIBRA.BFP.ON", "True", True),
        ("TRAIN.WEIGHTS", "models/R-50.pkl", "models/R-50.pkl"),
        ("TRAIN.WEIGHTS", "'quoted.pkl'", "quoted.pkl"),
        ("TRAIN.WEIGHTS", "", ""),
        ("OUTPUT_DIR", "1e5", "1e5"),
        ("OUTPUT_DIR", "007", "007"),
        ("OUTPUT_DIR", 12, "12"),
        ("TRAIN.MAX_SIZE", np.int64(512), 512),
        ("TRAIN", "{'MAX_SIZE': 512}", None),
    ],
)
def test_override_is_decoded_and_converted_to_the_type_of_the_key(key, text, expected):
    loaded = config.load(overrides=[key, text])
    if expected is None:
        assert loaded.TRAIN.MAX_SIZE == 512
        return
    value = value_at(loaded, key)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["[[[1, 2, 3.5]]]", "(1, 2, 3.5)"])
def test_pixel_means_keep_shape_and_type(text):
    means = config.load(overrides=["PIXEL_MEANS", text]).PIXEL_MEANS
    assert means.shape == (1, 1, 3)
    assert means.dtype == np.float64
    assert means.ravel().tolist() == [1, 2, 3.5]


def test_later_override_wins():
    assert config.load(overrides=["RNG_SEED", "1", "RNG_SEED", "2"]).RNG_SEED == 2


@settings(deadline=None)
@given(st.text())
def test_any_text_is_decoded_or_refused_in_one_line(text):
    for key in ("TRAIN.MAX_SIZE", "TRAIN.SCALES", "TRAIN.USE_FLIPPED", "OUTPUT_DIR", "TRAIN", text):
        try:
            config.load(overrides=[key, text])
        except ConfigError as error:
            assert len(str(error).splitlines()) == 1


@settings(deadline=None)
@given(numbers.filter(lambda n: n >= 0))
def test_any_number_reaches_a_float_key(number):
    value = config.load(overrides=["SOLVER.BASE_LR", repr(number)]).SOLVER.BASE_LR
    assert type(value) is float
    assert value == number


@settings(deadline=None)
@given(st.lists(path_text, max_size=4), st.sampled_from([list, tuple]))
def test_any_names_reach_a_tuple_key(names, kind):
    loaded = config.load(overrides=["TRAIN.PROPOSAL_FILES", repr(kind(names))])
    assert loaded["TRAIN"]["PROPOSAL_FILES"] == tuple(expand_path(name) for name in names)


@settings(deadline=None)
@given(path_text)
def test_any_quoted_text_reaches_a_string_key(text):
    # OUTPUT_DIR is a path: a home folder and environment variables in it are expanded.
    assume(not text.startswith("~") and "$" not in text)
    assert config.load(overrides=["OUTPUT_DIR", repr(text)])["OUTPUT_DIR"] == text


@settings(deadline=None)
@given(st.sampled_from("~$"), path_text)
def test_any_quoted_path_is_expanded(first, rest):
    loaded = config.load(overrides=["OUTPUT_DIR", repr(first + rest)])["OUTPUT_DIR"]
    assert loaded == expand_path(first + rest)


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("TRAIN.MAX_SIZE", "big", "an int, given 'big' (str)"),
        ("TRAIN.MAX_SIZE", "512.0", "an int, given 512.0 (float)"),
        ("TRAIN.MAX_SIZE", "True", "an int, given True (bool)"),
        ("SOLVER.BASE_LR", "True", "a float, given True (bool)"),
        ("SOLVER.BASE_LR", "1e999", "a finite number, given inf (float)"),
        ("SOLVER.BASE_LR", "1" + "0" * 400, "numbers of at most 64 bits, given 1000"),
        ("TRAIN.USE_FLIPPED", "1", "a bool (True or False), given 1 (int)"),
        ("TRAIN.USE_FLIPPED", "true", "a bool (True or False), given 'true' (str)"),
        ("TRAIN.DATASETS", "coco", "a tuple, given 'coco' (str); write ('coco',) for one"),
        ("SOLVER.STEPS", "0", "a list, given 0 (int); write [0] for one element"),
        ("TRAIN.SCALES", "(1", "a tuple, given '(1' (str)"),
        ("TRAIN.SCALES", None, "a tuple, given None (NoneType)"),
        ("PIXEL_MEANS", "(1, 2)", "3 numbers, given (1, 2) (tuple)"),
        ("PIXEL_MEANS", "grey", "3 numbers, given 'grey' (str)"),
        ("OUTPUT_DIR", {"a": "b"}, "a string, given {'a': 'b'} (dict)"),
    ],
)
def test_type_error_names_key_expected_type_and_value(key, value, expected):
    assert refusal(key, value).startswith(f"{key} in the overrides expects {expected}")


def test_long_values_are_cut_short():
    assert len(refusal("TRAIN.MAX_SIZE", "x" * 10000)) < 150
    assert len(refusal("TRAIN.SCALES", "x" * 10000)) < 150


def test_value_for_a_section_is_refused():
    assert refusal("TRAIN", "3") == (
        "TRAIN in the overrides is a section and expects a map of keys, given 3 (int)"
    )


@pytest.mark.parametrize(
    "key, guess",
    [
        ("TRAIN.DATSETS", "did you mean TRAIN.DATASETS?"),
        ("train.max_size", "did you mean TRAIN.MAX_SIZE?"),
        ("TRIAN", "did you mean TRAIN?"),
        ("TRIAN.MAX_SIZE", "did you mean TRAIN.MAX_SIZE?"),
        ("LIBRA.BFP.REFINE_LVL", "did you mean LIBRA.BFP.REFINE_LEVEL?"),
        ("TRAIN.SCALES.X", "did you mean TRAIN.SCALES?"),
        ("qqqq", "no known key is close to it"),
    ],
)
def test_unknown_key_error_names_the_nearest_key(key, guess):
    assert refusal(key, "1") == f"unknown key {key} in the overrides; {guess}"


@pytest.mark.parametrize(
    "key, new, advice",
    [
        ("TRAIN.DATASET", "TRAIN.DATASETS", "in a tuple"),
        ("TEST.SCALES", "TEST.SCALE", "one integer"),
        ("MODEL.ROI_HEAD", "FAST_RCNN.ROI_BOX_HEAD", "use that name"),
    ],
)
def test_renamed_key_error_names_the_new_key(key, new, advice):
    message = refusal(key, "1")
    assert message.startswith(f"key {key} in the overrides was renamed to {new}; ")
    assert advice in message


@pytest.mark.parametrize("key", ["USE_GPU_NMS", "RPN.ON", "TRAIN.DROPOUT"])
def test_deprecated_key_is_ignored_and_logged(key, caplog):
    with caplog.at_level(logging.WARNING):
        assert config.load(overrides=[key, "1"]) == config.load()
    assert f"ignoring the deprecated key {key} in the overrides" in caplog.text


def test_odd_number_of_overrides_is_refused():
    assert refusal("RNG_SEED", "1", "TRAIN.SCALES") == (
        "the overrides must come in pairs KEY VALUE; 'TRAIN.SCALES' (str) has no partner"
    )


def test_overrides_as_one_string_are_refused():
    with pytest.raises(ConfigError, match="must be a list of keys and values"):
        config.load(overrides="RNG_SEED 1")
    with pytest.raises(ConfigError, match="must be a list of keys and values"):
        config.load().with_overrides("RNG_SEED 1")
    assert "need a key's name" in refusal(3, "1")


def test_data_sets_may_have_any_name():
    entry = {"im_dir": "images", "ann_fn": "a.json"}
    loaded = config.load(
        overrides=[
            "DATASETS_EXTRA",
            repr({"one": entry}),
            "DATASETS_EXTRA.v1.0",
            repr(entry),
            "DATASETS_EXTRA.one.im_dir",
            "other",
        ]
    )
    assert loaded["DATASETS_EXTRA"] == {"one": {**entry, "im_dir": "other"}, "v1.0": entry}


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"im_dir": "i"}, "DATASETS_EXTRA.mine lacks ann_fn; give im_dir and ann_fn"),
        ({"im_dir": "i", "ann": "a"}, "unknown key DATASETS_EXTRA.mine.ann in the overrides; a"),
        (3, "DATASETS_EXTRA.mine in the overrides is a section and expects a map of keys"),
    ],
)
def test_data_set_entry_needs_both_paths(entry, message):
    assert refusal("DATASETS_EXTRA", {"mine": entry}).startswith(message)


def test_unknown_field_of_a_data_set_is_refused():
    assert refusal("DATASETS_EXTRA.mine.ann_file", "a.json").startswith(
        "unknown key DATASETS_EXTRA.mine.ann_file in the overrides; a data set takes im_dir and"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "/up", "a\0"])
def test_data_set_name_that_cannot_name_a_folder_is_refused(name):
    entry = {"im_dir": "i", "ann_fn": "a"}
    for key, value in (
        ("DATASETS_EXTRA", {name: entry}),
        ("TRAIN.DATASETS", ("mine", name)),
        ("TEST.DATASETS", (name,)),
    ):
        assert refusal(key, value).startswith(f"{key}: {name!r} (str) cannot name a data set")


@pytest.mark.parametrize("name", ["v1.0", "...", "my cells", "ünd"])
def test_data_set_name_that_can_name_a_folder_is_accepted(name):
    loaded = config.load(overrides=["TEST.DATASETS", (name,)])
    assert list(loaded.TEST.DATASETS) == [name]


def test_config_error_is_a_user_error():
    assert issubclass(config.ConfigError, UserError)
    assert config.ConfigError is ConfigError
