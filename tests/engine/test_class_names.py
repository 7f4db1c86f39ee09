"""Class names of weights that hold none, or another number of them."""

from __future__ import annotations

import pytest

from detectron_ext.data.coco_classes import COCO_CLASSES
from detectron_ext.engine.class_names import class_names

_NUMBERS = {0: "class 0", 1: "class 1", 2: "class 2"}


@pytest.mark.parametrize(
    "classes, num_classes, names, said",
    [
        (["bg", "cat", "dog"], 3, {0: "bg", 1: "cat", 2: "dog"}, ""),
        (None, 3, _NUMBERS, "w.pkl holds no class names: classes are shown by their numbers"),
        (
            None, 81, dict(enumerate(COCO_CLASSES)),
            "w.pkl holds no class names: COCO's names are assumed, because it has COCO's 80",
        ),
        (
            ["bg", "cat"], 3, _NUMBERS,
            "w.pkl holds 2 class names and MODEL.NUM_CLASSES is 3: classes are shown by their num",
        ),
    ],
)  # fmt: skip
def test_names_that_are_assumed_are_said(caplog, classes, num_classes, names, said):
    assert class_names(classes, num_classes, "w.pkl") == names
    assert len(caplog.records) == bool(said) and said in caplog.text
