from __future__ import annotations

import json
import math

import numpy as np
import pytest

from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset, read_ground_truth
from detectron_ext.errors import DatasetError


def failure(entry):
    with pytest.raises(DatasetError) as caught:
        CocoDataset(entry)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_and_records_follow_the_file(folder, config, capsys):
    folder.add_image(boxes=[[1, 2, 10, 12], {"bbox": [3, 4, 5, 6], "category_id": 2}])
    dataset = CocoDataset(folder.add_image(width=31, height=57).write())
    assert dataset.classes == ["__background__", "cat", "dog"]
    assert dataset.num_classes == 3
    assert dataset.category_to_contiguous == {7: 1, 2: 2}
    assert dataset.contiguous_to_category == {1: 7, 2: 2}
    first, empty = dataset.records(True, config)
    np.testing.assert_array_equal(first.boxes, [[1, 2, 10, 13], [3, 4, 7, 9]])
    np.testing.assert_array_equal(first.classes, [1, 2])
    assert first.boxes.dtype == np.float32
    assert first.classes.dtype == np.int32
    assert not first.is_crowd.any()
    assert (empty.width, empty.height, empty.boxes.shape) == (31, 57, (0, 4))
    assert empty.is_crowd.dtype == bool
    assert capsys.readouterr().out == ""


def test_boxes_are_left_out_if_no_ground_truth_is_requested(folder, config):
    del folder.add_image().content["annotations"]
    dataset = CocoDataset(folder.write())
    (record,) = dataset.records(False, config)
    assert record.boxes.shape == (0, 4)
    with pytest.raises(DatasetError, match="annotations"):
        dataset.records(True, config)


def test_missing_area_and_crowd_flag_are_filled_in_for_evaluation(folder, config):
    dataset = CocoDataset(folder.add_image(boxes=[[1, 2, 10, 12]]).write())
    (annotation,) = dataset.coco.dataset["annotations"]
    assert annotation["area"] == 120
    assert annotation["iscrowd"] == 0


def objects_and_crowds(coco, image_id=1):
    """The objects and the crowds that are scored in an image."""
    annotations = coco.imgToAnns[image_id]
    return [sum(a["iscrowd"] is flag for a in annotations) for flag in (False, True)]


@pytest.mark.parametrize("use", ["training", "testing", "comparing"])
@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"bbox": [5, 5, 0, 9]}, "zero-sized"),
        ({"bbox": [5, 5, 9, -3]}, "zero-sized"),
        ({"bbox": [50, 5, 9, 9]}, "outside the image"),
        ({"bbox": [-20, -20, 9, 9]}, "outside the image"),
        ({"bbox": [math.nan, 5, 9, 9]}, "non-finite"),
        ({"bbox": [5, 5, math.inf, 9]}, "non-finite"),
        ({"bbox": [5, 5, 9, 9], "area": math.nan}, "non-finite"),
        ({"bbox": [5, 5, 10**400, 9.5]}, "non-finite"),
        ({"bbox": [5, 5, 9, 9], "area": 0}, "zero area"),
        ({"bbox": [5, 5, 9, 9], "image_id": 99}, "with an unknown image_id"),
        ({"bbox": [5, 5, 9, 9], "category_id": 99}, "with an unknown category_id"),
        (
            {"bbox": [5, 5, 9, 9], "image_id": "1"},
            "whose image_id is text although the ids of 'images' are numbers",
        ),
        (
            {"bbox": [5, 5, 9, 9], "category_id": "7"},
            "whose category_id is text although the ids of 'categories' are numbers",
        ),
    ],
)
def test_an_unusable_box_is_dropped_and_said_on_every_path(
    folder, config, caplog, fields, reason, use
):
    entry = folder.add_image(boxes=[[1, 1, 20, 20], fields]).write()
    if use == "comparing":
        assert objects_and_crowds(read_ground_truth(entry)) == [1, 0]
    else:
        dataset = CocoDataset(entry)
        (record,) = dataset.records(use == "training", config)
        assert objects_and_crowds(dataset.coco) == [1, 0]
        assert len(record.boxes) == (use == "training")
    assert caplog.messages == [f"toy: 1 of 2 boxes dropped: 1 {reason} (annotation 2)"]


@pytest.mark.parametrize(
    "box, reason",
    [([5, 5, 1, 9], "one pixel thin"), ([5, 5, 2, 2], "below TRAIN.GT_MIN_AREA")],
)
def test_a_box_that_only_training_leaves_out_is_scored(folder, config, caplog, box, reason):
    config.TRAIN.GT_MIN_AREA = 5
    dataset = CocoDataset(folder.add_image(boxes=[[1, 1, 20, 20], box]).write())
    dataset.records(False, config)
    assert not caplog.messages
    (record,) = dataset.records(True, config)
    np.testing.assert_array_equal(record.boxes, [[1, 1, 20, 20]])
    assert objects_and_crowds(dataset.coco) == [2, 0]
    assert caplog.messages == [f"toy: 1 box not trained: 1 {reason}"]


def test_a_box_marked_ignore_is_not_trained_and_scored_like_a_crowd(folder, config, caplog):
    ignored = {"bbox": [5, 5, 9, 9], "ignore": 1}
    dataset = CocoDataset(folder.add_image(boxes=[[1, 1, 20, 20], ignored]).write())
    (record,) = dataset.records(True, config)
    np.testing.assert_array_equal(record.boxes, [[1, 1, 20, 20]])
    assert not record.is_crowd.any()
    assert objects_and_crowds(dataset.coco) == [1, 1]
    assert caplog.messages == ["toy: 1 marked ignore: not trained, and scored like a crowd"]


def test_one_warning_counts_everything_and_names_the_first_of_a_kind(folder, config, caplog):
    folder.add_image(boxes=[[-5, 3, 20, 10], [5, 5, 0, 0], [30, 20, 50, 50]])
    folder.add_image(boxes=[[5, 5, 0, 0], {"bbox": [1, 1, 9, 9], "category_id": 99}])
    entry = folder.write()
    first, second = CocoDataset(entry).records(True, config)
    np.testing.assert_array_equal(first.boxes, [[0, 3, 14, 12], [30, 20, 39, 29]])
    assert len(second.boxes) == 0
    CocoDataset(entry).records(True, config)
    assert caplog.messages == [
        "toy: 3 of 5 boxes dropped: 2 zero-sized (annotation 2, ...), 1 with an unknown "
        "category_id (annotation 5); 2 reaching beyond the image: clipped in training and "
        "pictures, and scored as annotated"
    ]


def test_clean_data_gives_no_warning(folder, config, caplog):
    CocoDataset(folder.add_image(boxes=[[0, 0, 40, 30]]).write()).records(True, config)
    assert not caplog.messages


def test_crowds_stay_and_are_marked(folder, config):
    crowd = {"bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": {"counts": [], "size": [1, 1]}}
    (record,) = CocoDataset(folder.add_image(boxes=[crowd]).write()).records(True, config)
    assert record.is_crowd.tolist() == [True]
    assert not record.has_ground_truth


def test_missing_or_unreadable_annotation_file_is_named(tmp_path):
    missing = str(tmp_path / "none.json")
    assert missing in failure(DatasetEntry("toy", str(tmp_path), missing))
    assert "cannot read" in failure(DatasetEntry("toy", str(tmp_path), str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"{", b"<xml/>", b'{"a": "\xff"}'])
def test_file_that_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    text = failure(DatasetEntry("toy", str(tmp_path), str(path)))
    assert "not JSON" in text
    assert str(path) in text


def without(section, field):
    return lambda content: content[section][0].pop(field)


def setting(section, field, value):
    return lambda content: content[section][0].__setitem__(field, value)


def repeating(section):
    return lambda content: content[section].append(dict(content[section][0]))


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (lambda content: content.pop("images"), "images"),
        (lambda content: content.pop("categories"), "categories"),
        (lambda content: content.update(images={}), "images"),
        (lambda content: content["images"].append("x"), "images[1]"),
        (without("images", "width"), "width"),
        (without("images", "file_name"), "file_name"),
        (without("annotations", "bbox"), "bbox"),
        (without("annotations", "id"), "id"),
        (without("categories", "name"), "name"),
        (setting("images", "height", 0), "height"),
        (setting("images", "height", 10.5), "height"),
        (setting("images", "height", 10**400), "height"),
        (setting("images", "height", math.inf), "height"),
        (setting("images", "id", math.nan), "id must be a finite number or text"),
        (setting("images", "file_name", 3), "file_name"),
        (setting("images", "id", [1]), "id"),
        (setting("categories", "name", None), "name"),
        (setting("annotations", "bbox", [1, 2, 3]), "bbox"),
        (setting("annotations", "bbox", [1, 2, 3, None]), "bbox"),
        (setting("annotations", "area", "big"), "area"),
        (setting("annotations", "iscrowd", "1"), "iscrowd must be a number"),
        (setting("annotations", "ignore", "1"), "ignore must be a number"),
        (repeating("images"), "twice"),
        (repeating("annotations"), "twice"),
        (repeating("categories"), "twice"),
    ],
)
def test_wrong_structure_is_named(folder, spoil, expected):
    folder.add_image(boxes=[[1, 1, 9, 9]])
    spoil(folder.content)
    text = failure(folder.write())
    assert expected in text
    assert "toy.json" in text


@pytest.mark.parametrize(
    ("name", "owner"),
    [("cat", "that of category id 7"), ("__background__", "the background's")],
)
def test_a_name_of_two_classes_is_named_with_their_ids(folder, name, owner):
    folder.content["categories"].append({"id": 9, "name": name})
    message = failure(folder.write())
    assert f"toy.json: the name of category id 9, {name!r}, is also {owner}: results" in message


def test_top_level_must_be_an_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([1, 2]))
    assert "COCO" in failure(DatasetEntry("toy", str(tmp_path), str(path)))


def test_missing_image_folder_is_named(folder):
    entry = folder.add_image().write()
    assert "nowhere" in failure(DatasetEntry("toy", "nowhere", entry.ann_fn))


def test_missing_image_is_named_or_skipped(folder, config, caplog):
    folder.add_image(write=False).add_image()
    dataset = CocoDataset(folder.write())
    with pytest.raises(DatasetError, match=r"1\.png"):
        dataset.records(True, config)
    (record,) = dataset.records(True, config, skip_bad_images=True)
    assert record.image_id == 2
    assert "1.png" in caplog.text


def test_bccd_has_its_classes_and_images(shared_path, config):
    root = shared_path("data/bccd")
    for split, size, boxes in (("train", 205, 2804), ("val", 87, 1137)):
        annotations = str(root / "annotations" / f"bccd_{split}.json")
        dataset = CocoDataset(DatasetEntry(f"bccd_{split}", str(root / "images"), annotations))
        records = dataset.records(True, config)
        assert dataset.classes == ["__background__", "RBC", "WBC", "Platelets"]
        assert len(records) == size
        assert sum(len(record.boxes) for record in records) == boxes
