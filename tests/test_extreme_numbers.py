"""Numbers that no float or no text holds end in one line, wherever they are read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.array_pickle import write_pickle
from detectron_ext.data.annotation_file import check_annotations, read_json
from detectron_ext.data.proposals import read_scored_proposals
from detectron_ext.errors import ConfigError, DatasetError, UserError, shown
from detectron_ext.evaluation.detections_file import read_detections
from detectron_ext.experiments.spec import read_spec

_HUGE = "9" * 400
_HEX = "0x" + "f" * 5000


def _line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("value", [_HUGE, _HEX, "9" * 19, f"-{_HUGE}"])
@pytest.mark.parametrize(
    "key, form",
    [
        ("SOLVER.MAX_ITER", "{}"),
        ("SOLVER.BASE_LR", "{}"),
        ("RETINANET.ASPECT_RATIOS", "({},)"),
        ("SOLVER.STEPS", "[0,{}]"),
        ("PIXEL_MEANS", "[[[{},1,1]]]"),
        ("MODEL.FASTER_RCNN", "{}"),
        ("TRAIN.DATASETS", "({},)"),
    ],
)
def test_integers_of_a_configuration_fit_64_bits(tmp_path, key, form, value):
    text = form.format(value)
    with pytest.raises(ConfigError, match=key) as caught:
        configuration.load(None, [key, text])
    _line(caught)
    section, _, name = key.rpartition(".")
    inner = f"{name}: {text.replace('(', '[').replace(',)', ']')}\n"
    path = tmp_path / "c.yaml"
    path.write_text(f"{section}:\n  {inner}" if section else inner)
    with pytest.raises(ConfigError) as caught:
        configuration.load(str(path))
    _line(caught)


def test_what_cannot_be_written_is_shown_as_text():
    assert shown(int(_HEX, 16)) == "a very long number (int)"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "something nested very deeply (list)"


def test_a_json_file_with_a_number_of_many_digits_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [' + "9" * 5000 + "]}")
    with pytest.raises(DatasetError, match="a.json.* digits|a.json: images"):
        check_annotations(read_json(str(path)), str(path))


@pytest.mark.parametrize("side", [10**400, 10**300, 2**21, 1e300])
def test_sides_of_an_image_are_limited(side):
    image = {"id": 1, "file_name": "a.png", "width": side, "height": 9}
    with pytest.raises(DatasetError, match="width must be a whole number of pixels") as caught:
        check_annotations({"images": [image], "categories": []}, "a.json")
    _line(caught)


@pytest.mark.parametrize("change", [{"score": 1e308}, {"bbox": [1, 1, 1e307, 1]}])
def test_detections_whose_sums_overflow_are_refused(tmp_path, change):
    found = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **change}
    path = tmp_path / "d.json"
    path.write_text(json.dumps([found]))
    with pytest.raises(UserError, match="entry 0 is not a COCO result.*above 1e"):
        read_detections(str(path))


@pytest.mark.parametrize(
    "boxes, scores",
    [
        ([[0, 0, 1e300, 1]], [0.5]),
        ([[0, 0, 9, 1]], [1e308]),
        ([[0, 0], [1]], [0.5]),
        ([[0, 0, 9, 1]], [[1], [1, 2]]),
    ],
)
def test_proposals_whose_sums_overflow_are_refused(tmp_path, recwarn, boxes, scores):
    path = str(tmp_path / "p.pkl")
    write_pickle(path, {"boxes": [boxes], "scores": [scores], "ids": [3]})
    with pytest.raises(DatasetError, match="p.pkl: .*image 3"):
        read_scored_proposals(path)
    assert not recwarn.list


@pytest.mark.parametrize("ids", [np.array(3), [np.array(3)], [[3]], np.zeros((1, 1))])
def test_ids_of_proposals_that_are_no_ids_are_refused(tmp_path, ids):
    path = str(tmp_path / "p.pkl")
    write_pickle(path, {"boxes": [np.zeros((1, 4))], "scores": [np.zeros(1)], "ids": ids})
    with pytest.raises(DatasetError) as caught:
        read_scored_proposals(path)
    _line(caught)


@pytest.mark.parametrize(
    "part",
    [f"sizes: [{_HUGE}]", f"seeds: [{_HUGE}]", f"folds: {_HUGE}", "folds: 100000000",
     f"seeds: [1]\nfolds: {{count: 2, seed: {_HUGE}}}", f"sizes: [{_HEX}]"],
)  # fmt: skip
def test_numbers_of_a_sweep_are_limited(tmp_path, part):
    path = tmp_path / "s.yaml"
    seeds = "" if "seeds" in part else "seeds: [1]\n"
    path.write_text(f"variants: {{a: {{config: a.yaml}}}}\n{seeds}{part}\n")
    with pytest.raises(ConfigError, match="s.yaml: (sizes|seeds|folds)") as caught:
        read_spec(str(path))
    _line(caught)
