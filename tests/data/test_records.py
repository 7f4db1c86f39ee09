from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron_ext.data.records import (
    ImageRecord,
    check_class_order,
    flip_horizontally,
    training_records,
)
from detectron_ext.errors import ConfigError, DatasetError


def entry_dict(entry):
    return {"im_dir": entry.im_dir, "ann_fn": entry.ann_fn}


@given(
    width=st.integers(2, 500),
    left=st.floats(0, 1, width=32),
    right=st.floats(0, 1, width=32),
)
def test_flipping_twice_gives_the_record_back(width, left, right):
    x1, x2 = sorted((round(left * (width - 1)), round(right * (width - 1))))
    boxes = np.array([[x1, 3, x2, 9]], dtype=np.float32)
    record = ImageRecord(
        1, "x", 20, width, boxes, np.ones(1, np.int32), np.zeros(1, bool), False, "toy"
    )
    flipped = flip_horizontally(record)
    assert flipped.flipped
    assert flipped.boxes[0].tolist() == [width - x2 - 1, 3, width - x1 - 1, 9]
    back = flip_horizontally(flipped)
    assert not back.flipped
    np.testing.assert_array_equal(back.boxes, boxes)


def test_empty_and_crowd_only_images_do_not_train(folder, config):
    folder.add_image(boxes=[[1, 1, 9, 9]]).add_image()
    folder.add_image(boxes=[{"bbox": [1, 1, 9, 9], "iscrowd": 1}])
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.write())}
    records, (dataset,) = training_records("toy", config)
    assert [(record.image_id, record.flipped) for record in records] == [(1, False), (1, True)]
    assert dataset.num_classes == 3
    config.TRAIN.USE_FLIPPED = False
    assert len(training_records(("toy",), config)[0]) == 1


def test_images_without_annotations_are_kept_if_the_configuration_says_so(folder, config, caplog):
    caplog.set_level(logging.INFO)
    folder.add_image(boxes=[[1, 1, 9, 9]]).add_image()
    folder.add_image(boxes=[{"bbox": [1, 1, 9, 9], "iscrowd": 1}])
    folder.add_image(boxes=[[1, 1, 0, 9]])
    folder.add_image(boxes=[{"bbox": [1, 1, 9, 9], "image_id": "5"}])
    folder.add_image(boxes=[{"bbox": [1, 1, 9, 9], "ignore": 1}])
    folder.add_image()
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.write())}
    config.TRAIN.USE_FLIPPED = False
    training_records("toy", config)
    counts = "toy: 7 images, 6 without ground truth left out, 0 flipped added, 1 box; "
    assert counts + "LIBRA.DATA.KEEP_EMPTY_IMAGES True keeps 2 as background" in caplog.text
    config.LIBRA.DATA.KEEP_EMPTY_IMAGES = True
    records, _ = training_records("toy", config)
    assert [record.image_id for record in records] == [1, 2, 7]
    assert [len(record.boxes) for record in records] == [1, 0, 0]
    counts = "toy: 7 images, 4 without ground truth left out, 0 flipped added, 1 box; "
    assert counts + "2 images without annotations kept as background" in caplog.text


def test_images_without_annotations_alone_do_not_train(folder, config):
    config.LIBRA.DATA.KEEP_EMPTY_IMAGES = True
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.add_image().write())}
    with pytest.raises(DatasetError, match="no image has a ground-truth box"):
        training_records("toy", config)


@pytest.mark.parametrize(
    "kind, key, is_said",
    [
        ("retinanet", None, True),
        ("retinanet", "IGNORE_CROWD_ANCHORS", False),
        ("generalized_rcnn", None, False),  # Fast R-CNN has no anchors
    ],
)
def test_what_anchors_in_crowds_are_is_said(folder, config, caplog, kind, key, is_said):
    caplog.set_level(logging.INFO)
    crowd = {"bbox": [1, 1, 9, 9], "iscrowd": 1}
    folder.add_image(boxes=[[1, 1, 9, 9], crowd]).add_image(boxes=[crowd])
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.write())}
    config.MODEL.TYPE = kind
    if key:
        setattr(config.LIBRA, key, True)
    training_records("toy", config)
    message = (
        "toy: anchors inside its 1 crowd box are background, as in Detectron; "
        "LIBRA.IGNORE_CROWD_ANCHORS True ignores them"
    )
    assert (message in caplog.messages) == is_said


def test_data_sets_are_combined_when_their_classes_agree(folder, config):
    folder.add_image(boxes=[[1, 1, 9, 9]])
    first = folder.write("first")
    folder.content["categories"][0]["id"] = 70
    folder.content["annotations"][0]["category_id"] = 70
    second = folder.write("second")
    folder.content["categories"][0]["name"] = "cow"
    third = folder.write("third")
    for entry in (first, second, third):
        config.DATASETS_EXTRA[entry.name] = entry_dict(entry)
    records, datasets = training_records(("first", "second"), config)
    assert [record.dataset_name for record in records] == ["first"] * 2 + ["second"] * 2
    assert [record.classes.tolist() for record in records] == [[1]] * 4
    assert [dataset.name for dataset in datasets] == ["first", "second"]
    with pytest.raises(DatasetError, match=r"first and third.*cat.*cow"):
        training_records(("first", "third"), config)


def test_records_without_boxes_to_train_on_are_refused(folder, config):
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.add_image().write())}
    with pytest.raises(DatasetError, match="toy"):
        training_records("toy", config)
    with pytest.raises(DatasetError, match=r"TRAIN\.DATASETS"):
        training_records((), config)


def test_number_of_classes_must_match(folder, config):
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.add_image(boxes=[[1, 1, 9, 9]]).write())}
    config.MODEL.NUM_CLASSES = 81
    with pytest.raises(ConfigError) as caught:
        training_records("toy", config)
    text = str(caught.value)
    assert "MODEL.NUM_CLASSES" in text
    assert "needs 3" in text
    assert "[cat, dog]" in text


def test_missing_images_are_skipped_when_the_configuration_says_so(folder, config):
    folder.add_image(boxes=[[1, 1, 9, 9]], write=False).add_image(boxes=[[1, 1, 9, 9]])
    config.DATASETS_EXTRA = {"toy": entry_dict(folder.write())}
    with pytest.raises(DatasetError, match=r"1\.png"):
        training_records("toy", config)
    config.LIBRA.DATA.SKIP_BAD_IMAGES = True
    assert {record.image_id for record in training_records("toy", config)[0]} == {2}


_CLASSES = ["__background__", "cat", "dog", "cow"]


@pytest.mark.parametrize(
    "others, where",
    [
        (["cat", "cow", "dog"], "class 2 is cow instead of dog, class 3 is dog instead of cow"),
        (["dog", "fox", "cow"], "class 1 is dog instead of cat, class 2 is fox instead of dog"),
        (["cat", "fox", "dog"], "class 2 is fox instead of dog, class 3 is dog instead of cow"),
    ],
)
def test_classes_in_another_order_are_refused(others, where):
    tested = {"good": _CLASSES, "toy": ["__background__", *others]}
    tested["other"] = ["__background__", "dog", "cat", "cow"]
    with pytest.raises(DatasetError) as raised:
        check_class_order(_CLASSES, "weights w.pkl", tested)
    assert str(raised.value) == (
        f"{where} in data set toy; class 1 is dog instead of cat, class 2 is cat instead of dog in "
        "data set other, in another order than in weights w.pkl: list the 'categories' of its "
        "annotation file in the same order"
    )


def test_a_class_with_another_name_is_a_warning(caplog):
    check_class_order(_CLASSES, "weights w.pkl", {"toy": _CLASSES})
    assert not caplog.records
    check_class_order(_CLASSES, "weights w.pkl", {"toy": ["__background__", "cat", "Dog", "cow"]})
    assert "class 2 is Dog instead of dog in data set toy, compared with weights w.pkl: each" in (
        caplog.text
    )
