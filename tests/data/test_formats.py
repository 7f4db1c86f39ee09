"""Annotation formats from outside the package."""

from __future__ import annotations

import json

import pytest

from detectron_ext import config as configuration
from detectron_ext.data.catalog import CATALOG_VARIABLE, resolve
from detectron_ext.data.coco_dataset import CocoDataset, read_ground_truth
from detectron_ext.data.formats import FORMATS
from detectron_ext.errors import ConfigError, DatasetError

pytestmark = pytest.mark.usefixtures("restored_registries")


@FORMATS.register("words")
def _words(entry):
    """Class, x, y, width and height of one object in the one image "1.png"."""
    with open(entry.ann_fn, encoding="utf-8") as file:
        name, *bbox = file.read().split()
    return {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [float(x) for x in bbox]}
        ],
    }


del FORMATS._parts["words"]  # each test registers it itself


@pytest.fixture
def words(tmp_path):
    FORMATS.register("words")(_words)
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "1.txt").write_text("cat 2 3 10 20")
    return {"im_dir": str(tmp_path), "ann_fn": str(tmp_path / "1.txt"), "format": "words"}


def _entry(fields):
    return resolve("mine", configuration.load(None, ["DATASETS_EXTRA.mine", fields]))


def test_training_and_scoring_use_a_registered_format(words):
    entry = _entry(words)
    assert entry.format == "words"
    dataset = CocoDataset(entry)
    assert dataset.classes == ["__background__", "cat"]
    record = dataset.records(with_ground_truth=True, config=configuration.load())[0]
    assert record.boxes.tolist() == [[2, 3, 11, 22]]
    assert read_ground_truth(entry).anns[1]["bbox"] == [2, 3, 10, 20]


def test_a_file_that_cannot_be_read_is_named(words, tmp_path):
    (tmp_path / "1.txt").unlink()
    with pytest.raises(DatasetError, match=f"^cannot read annotation file {words['ann_fn']}: No"):
        CocoDataset(_entry(words))


def test_an_os_error_without_a_system_message_is_reported(words, monkeypatch):
    def read(entry):
        raise OSError("the server is away")

    monkeypatch.setitem(FORMATS._parts, "words", read)
    with pytest.raises(DatasetError, match=f"file {words['ann_fn']}: the server is away$"):
        CocoDataset(_entry(words))


def test_the_content_that_a_format_returns_is_checked(words, tmp_path):
    (tmp_path / "1.txt").write_text("cat 2 3")
    with pytest.raises(DatasetError, match="bbox must be four numbers"):
        CocoDataset(_entry(words))


def test_a_format_that_is_no_function_is_refused_when_it_is_registered():
    with pytest.raises(ConfigError, match=r"a data set's format: 'xml' must be a function, given"):
        FORMATS.register("xml")({"images": []})
    assert "xml" not in FORMATS


def test_an_unregistered_format_is_refused(words, tmp_path, monkeypatch):
    fields = {**words, "format": "word"}
    with pytest.raises(ConfigError) as error:
        configuration.load(None, ["DATASETS_EXTRA.mine", fields])
    assert str(error.value) == (
        "DATASETS_EXTRA.mine.format must be one of coco, words, given 'word' (str); did you mean "
        "words?"
    )
    path = tmp_path / "catalog.yaml"
    path.write_text(json.dumps({"mine": fields}))
    monkeypatch.setenv(CATALOG_VARIABLE, str(path))
    with pytest.raises(DatasetError, match="catalog.yaml: mine.format must be one of coco, words"):
        resolve("mine", configuration.load())
