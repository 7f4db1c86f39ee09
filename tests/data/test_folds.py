"""Joining data sets and dividing their images into folds."""

from __future__ import annotations

import json

import pytest
from squares import make_squares

from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.folds import split_in_folds
from detectron_ext.data.joined_annotations import joined_annotations, part_of
from detectron_ext.errors import DatasetError


def test_each_image_is_in_one_fold_and_groups_stay_together():
    groups = [[0, 5], [1], [2, 3, 4], *([index] for index in range(6, 30))]
    folds = split_in_folds(groups, 5, seed=1)
    assert sorted(index for fold in folds for index in fold) == list(range(30))
    assert all(fold == sorted(fold) and len(fold) == 6 for fold in folds)
    for group in groups:
        assert sum(bool(set(group) & set(fold)) for fold in folds) == 1


def test_the_split_depends_on_the_seed_alone():
    groups = [[index] for index in range(40)]
    assert split_in_folds(groups, 4, 1) == split_in_folds(groups, 4, 1)
    assert split_in_folds(groups, 4, 1) != split_in_folds(groups, 4, 2)
    assert split_in_folds(groups, 4, 1)[0] != list(range(10))


def test_too_few_groups_are_refused():
    with pytest.raises(DatasetError, match="4 images, of which 2 are not nearly the same"):
        split_in_folds([[0, 1, 2], [3]], 3, 0)


@pytest.fixture
def two_sets(tmp_path):
    """Entries of two data sets with the same classes under other ids, and other images."""
    entries = []
    for name, count in (("one", 3), ("two", 2)):
        paths = make_squares(tmp_path / name, count, seed=count)
        entries.append(DatasetEntry(name, **paths))
    _change(entries[1], lambda content: _renumber(content))
    return entries


def _renumber(content):
    for category in content["categories"]:
        category["id"] += 70
    for annotation in content["annotations"]:
        annotation["category_id"] += 70


def _change(entry, change):
    with open(entry.ann_fn) as file:
        content = json.load(file)
    change(content)
    with open(entry.ann_fn, "w") as file:
        json.dump(content, file)


def test_joined_annotations_have_all_images_and_boxes(two_sets, tmp_path):
    content = joined_annotations(two_sets)
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5]
    path = tmp_path / "joined.json"
    path.write_text(json.dumps(content))
    joined = CocoDataset(DatasetEntry("joined", str(tmp_path), str(path)))
    assert joined.classes[1:] == ["square", "disc"]
    for first, entry in zip((1, 4), two_sets):
        own = CocoDataset(entry)
        for image_id in own.image_ids():
            theirs = joined.coco.imgToAnns[first + image_id - 1]
            assert joined.image_path(first + image_id - 1) == own.image_path(image_id)
            for ours, box in zip(theirs, own.coco.imgToAnns[image_id]):
                assert ours["bbox"] == box["bbox"]
                number = own.category_to_contiguous[box["category_id"]]
                assert joined.category_to_contiguous[ours["category_id"]] == number
    part = part_of(content, {2, 5})
    assert [image["id"] for image in part["images"]] == [2, 5]
    assert {a["image_id"] for a in part["annotations"]} == {2, 5}


def test_data_sets_that_cannot_be_joined_are_refused(two_sets):
    with pytest.raises(DatasetError, match="is in one and in one, so its objects would be joined"):
        joined_annotations([two_sets[0], two_sets[0]])
    _change(two_sets[1], lambda content: content["categories"].reverse())
    with pytest.raises(
        DatasetError, match="one and two cannot be joined: their classes are square"
    ):
        joined_annotations(two_sets)
    _change(two_sets[1], lambda content: content.pop("annotations"))
    with pytest.raises(DatasetError, match="has no 'annotations' to join"):
        joined_annotations(two_sets)
