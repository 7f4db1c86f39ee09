"""Finding the two parts of a folder of photographs."""

from __future__ import annotations

import pytest

from detectron_ext.data.coco_folder import find_parts
from detectron_ext.errors import DatasetError


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_annotations_beside_one_folder_of_images(tmp_path):
    root = tmp_path / "my cells"
    write(root, "annotations/cells_train.json", "annotations/cells_val.json", "images/1.png")
    train, val = find_parts(str(root))
    assert (train.name, val.name) == ("my_cells_train", "my_cells_val")
    assert train.im_dir == val.im_dir == str(root / "images")
    assert train.ann_fn == str(root / "annotations/cells_train.json")
    assert val.ann_fn == str(root / "annotations/cells_val.json")


def test_images_of_the_parts_in_folders_of_their_own(tmp_path):
    write(tmp_path, "annotations/train.json", "annotations/val.json")
    write(tmp_path, "images/train/1.png", "images/val/2.png")
    assert [part.im_dir for part in find_parts(str(tmp_path))] == [
        str(tmp_path / "images/train"),
        str(tmp_path / "images/val"),
    ]


def test_an_export_of_roboflow(tmp_path):
    write(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json")
    train, val = find_parts(str(tmp_path))
    assert (train.im_dir, val.im_dir) == (str(tmp_path / "train"), str(tmp_path / "valid"))
    assert val.ann_fn == str(tmp_path / "valid/_annotations.coco.json")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no annotation file of the train part; expected are annotations"),
        (["annotations/train.json"], "has no annotation file of the val part"),
        (
            ["annotations/train.json", "annotations/train2.json", "annotations/val.json"],
            "has 2 files of the train part: train.json, train2.json",
        ),
    ],
)
def test_other_folders_are_refused(tmp_path, names, message):
    write(tmp_path, *names)
    with pytest.raises(DatasetError, match=message):
        find_parts(str(tmp_path))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere not found"):
        find_parts(str(tmp_path / "nowhere"))
