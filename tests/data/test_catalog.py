from __future__ import annotations

import pytest

from detectron_ext import config as configuration
from detectron_ext.data.catalog import known_names, resolve
from detectron_ext.errors import DatasetError, UserError


@pytest.fixture(autouse=True)
def no_folders(monkeypatch):
    for variable in ("DETECTRON_EXT_DATASETS", "BCCD_ROOT", "COCO_ROOT"):
        monkeypatch.delenv(variable, raising=False)


def message(name, config):
    with pytest.raises(DatasetError) as caught:
        resolve(name, config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_extra_data_sets_come_first_then_the_yaml_map(config, tmp_path, monkeypatch):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        "mine: {im_dir: yaml_images, ann_fn: yaml.json}\n"
        "bccd_val: {im_dir: other, ann_fn: other.json, im_prefix: p_}\n"
    )
    monkeypatch.setenv("DETECTRON_EXT_DATASETS", str(catalog))
    config.DATASETS_EXTRA = {"mine": {"im_dir": "images", "ann_fn": "a.json"}}
    assert resolve("mine", config).im_dir == "images"
    assert resolve("bccd_val", config).ann_fn == "other.json"
    assert resolve("bccd_val", config).im_prefix == "p_"


def test_home_and_variables_in_paths_are_expanded(config, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("PHOTOS", "/photos")
    config.DATASETS_EXTRA = {"mine": {"im_dir": "$PHOTOS/a", "ann_fn": "~/a.json"}}
    entry = resolve("mine", config)
    assert (entry.im_dir, entry.ann_fn) == ("/photos/a", "/home/someone/a.json")


@pytest.mark.parametrize("entry", [{"im_dir": "x"}, {"im_dir": None, "ann_fn": "y"}, "x", None])
def test_incomplete_extra_entry_is_named(config, entry):
    config.DATASETS_EXTRA = {"mine": entry}
    text = message("mine", config)
    assert "mine" in text
    assert "DATASETS_EXTRA" in text


ENTRIES = {
    "{im_dir: i, ann_fn: a.json, im_prefix: }": ("i", "a.json", ""),
    "{im_dir: 2017, ann_fn: 17, im_prefix: 2014}": ("2017", "17", "2014"),
    "{im_dir: i, ann_fn: }": "ann_fn",
    "{im_dir: '', ann_fn: a.json}": "im_dir",
    "{im_dir: i, ann_fn: a.json, prefix: p_}": "unknown key {}mine.prefix in {}; a data set takes",
    "{im_dir: i, ann_fn: a.json, im_prefix: {}}": "{}mine.im_prefix in {} expects a string",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_means_the_same_in_a_configuration_and_in_the_yaml_map(
    tmp_path, monkeypatch, entry
):
    def found(text, before):
        path = tmp_path / "file.yaml"
        path.write_text(text)
        with monkeypatch.context() as patch:
            if not before:
                patch.setenv("DETECTRON_EXT_DATASETS", str(path))
            try:
                made = resolve("mine", configuration.load(path if before else None))
            except UserError as error:
                assert ENTRIES[entry].format(before, path) in str(error)
            else:
                assert (made.im_dir, made.ann_fn, made.im_prefix) == ENTRIES[entry]

    found(f"mine: {entry}", "")
    found(f"DATASETS_EXTRA: {{mine: {entry}}}", "DATASETS_EXTRA.")


@pytest.mark.parametrize("name", ["2017", "on", "2020-01-02", "2017_val"])
def test_names_in_the_yaml_map_are_text(config, tmp_path, monkeypatch, name):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(f"mine: {{im_dir: a, ann_fn: b}}\n{name}: {{im_dir: c, ann_fn: d}}\n")
    monkeypatch.setenv("DETECTRON_EXT_DATASETS", str(catalog))
    assert resolve(name, config).im_dir == "c"
    assert {name, "mine"} <= set(known_names(config))
    assert name in message(f"{name}_typo", config)


_BAD_MAPS = [
    "a: [",
    "- a\n- b\n",
    "",
    None,
    b"\xff\xfe\xfa",
    b"mine: \xff",
    "mine: {im_dir: a, ann_fn: 2020-13-40}",
    "mine: " + "[" * 5000,
]


@pytest.mark.parametrize("content", _BAD_MAPS, ids=range(len(_BAD_MAPS)))
def test_bad_yaml_map_is_named(config, tmp_path, monkeypatch, content):
    path = tmp_path / "catalog.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    monkeypatch.setenv("DETECTRON_EXT_DATASETS", str(path))
    assert str(path) in message("anything", config)


def test_bccd_is_found_by_its_environment_variable(config, tmp_path, monkeypatch):
    assert "BCCD_ROOT" in message("bccd_train", config)
    monkeypatch.setenv("BCCD_ROOT", str(tmp_path / "absent"))
    assert "absent" in message("bccd_train", config)
    monkeypatch.setenv("BCCD_ROOT", str(tmp_path))
    entry = resolve("bccd_train", config)
    assert entry.im_dir == str(tmp_path / "images")
    assert entry.ann_fn == str(tmp_path / "annotations" / "bccd_train.json")


def test_digits_are_drawn_on_first_use(config, tmp_path, monkeypatch):
    from detectron_ext.data import digits

    made = []
    monkeypatch.setattr(
        digits, "ensure_dataset", lambda split: made.append(split) or (tmp_path, f"{split}.json")
    )
    entry = resolve("digits_val", config)
    assert made == ["val"]
    assert (entry.name, entry.im_dir, entry.ann_fn) == ("digits_val", str(tmp_path), "val.json")


def test_coco_is_found_in_both_folder_layouts(config, tmp_path, monkeypatch):
    assert "COCO_ROOT" in message("coco_2014_minival", config)
    monkeypatch.setenv("COCO_ROOT", str(tmp_path))
    (tmp_path / "coco_val2014").mkdir()
    entry = resolve("coco_2014_minival", config)
    assert entry.im_dir == str(tmp_path / "coco_val2014")
    assert entry.ann_fn == str(tmp_path / "annotations" / "instances_minival2014.json")
    assert resolve("coco_2017_val", config).im_dir == str(tmp_path / "val2017")
    assert resolve("coco_2017_test-dev", config).im_prefix == "COCO_test2015_"


def test_unknown_name_error_says_the_nearest_name_and_how_to_add_one(config):
    text = message("bccd_trian", config)
    assert "bccd_train" in text
    assert "DATASETS_EXTRA" in text
    assert {"bccd_val", "digits_train", "coco_2014_valminusminival"} <= set(known_names(config))
