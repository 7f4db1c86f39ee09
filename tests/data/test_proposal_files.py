from __future__ import annotations

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

from detectron_ext.data.image_record import flip_horizontally
from detectron_ext.data.minibatch import load_sample
from detectron_ext.data.proposals import (
    proposal_paths,
    usable_proposals,
    with_proposals,
    write_proposals,
)
from detectron_ext.data.records import training_records
from detectron_ext.errors import DatasetError

_BOXES = np.array([[4, 4, 21, 16], [0, 0, 39, 29]], np.float32)


def _write(path, **content):
    path.write_bytes(pickle.dumps(content, protocol=2))
    return str(path)


@pytest.fixture
def records(make_record):
    return [make_record(number=number) for number in range(3)]


def test_images_get_their_proposals_by_id(tmp_path, records):
    path = str(tmp_path / "p.pkl")
    boxes = [_BOXES + number for number in range(4)]
    # Another order than the data set's, and an image that it lacks.
    write_proposals(path, [2, 7, 0, 1], boxes, [np.ones(2)] * 4, "A: 1\n")
    found = with_proposals(records, path)
    for record, original, expected in zip(found, records, (boxes[2], boxes[3], boxes[0])):
        np.testing.assert_array_equal(record.proposals, expected)
        assert replace(record, proposals=None) == original


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_image_may_have_no_proposals(tmp_path, records, protocol):
    boxes, scores = [_BOXES, np.zeros((0, 4), np.float32), _BOXES], [np.ones(2), np.ones(0)]
    path = tmp_path / "p.pkl"
    write_proposals(str(path), [0, 1, 2], boxes, [*scores, np.ones(2)], "A: 1\n")
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol))
    found = with_proposals(records, str(path))
    assert [len(record.proposals) for record in found] == [2, 0, 2]
    assert usable_proposals(found[1]).shape == (0, 4)


def test_the_key_indexes_of_old_detectron_files_is_read(tmp_path, records):
    path = _write(tmp_path / "p.pkl", boxes=[_BOXES] * 3, indexes=[0, 1, 2], scores=[[1, 1]] * 3)
    assert len(with_proposals(records, path)[0].proposals) == 2


@pytest.mark.parametrize("kind", [int, float, np.int64, np.float64, str])
def test_ids_may_have_any_type_that_annotations_allow(tmp_path, records, kind):
    path = str(tmp_path / "p.pkl")
    records = [replace(record, image_id=kind(record.image_id)) for record in records]
    ids = [record.image_id for record in records]
    write_proposals(path, ids, [_BOXES] * 3, [np.ones(2)] * 3, "A: 1\n")
    assert all(len(record.proposals) == 2 for record in with_proposals(records, path))


@pytest.mark.parametrize(
    "content, fault",
    [
        ({"boxes": [_BOXES] * 2, "ids": [0, 1]}, "lack 1 of the 3 images.*id 2"),
        ({"boxes": [_BOXES] * 2, "ids": [0, 1, 2]}, "boxes of 2 images but 3 ids"),
        ({"boxes": [_BOXES] * 3, "ids": [0, 1, 1]}, "image 1 twice"),
        ({"boxes": [_BOXES] * 3}, "'ids'"),
        ({"boxes": 3, "ids": [0]}, "'boxes'"),
        ({"boxes": np.array(3), "ids": [0]}, "'boxes'"),
        ({"boxes": [_BOXES], "ids": np.array(0)}, "'ids'"),
        ({"boxes": [_BOXES, _BOXES, _BOXES[:, :3]], "ids": [0, 1, 2]}, "image 2"),
        ({"boxes": [_BOXES, _BOXES, "text"], "ids": [0, 1, 2]}, "image 2"),
        ({"boxes": [_BOXES, _BOXES * np.nan, _BOXES], "ids": [0, 1, 2]}, "image 1 is not finite"),
        ({"boxes": [_BOXES], "ids": [[0]]}, "is not an image id"),
        ({"boxes": [print], "ids": [0]}, "print"),
    ],
)
def test_files_that_do_not_fit_are_named_in_one_line(tmp_path, records, content, fault):
    path = _write(tmp_path / "p.pkl", **content)
    with pytest.raises(DatasetError, match=fault) as caught:
        with_proposals(records, path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path, records):
    for name, content in (
        ("list.pkl", pickle.dumps([1])),
        ("cut.pkl", b"\x80\x02}"),
        ("no.pkl", None),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=name):
            with_proposals(records, str(tmp_path / name))


def test_every_data_set_needs_a_file_of_its_own(tmp_path):
    path = _write(tmp_path / "p.pkl", boxes=[])
    assert proposal_paths([path], ["a"], "TRAIN.PROPOSAL_FILES") == [path]
    for files, fault in (
        ([], "0 files for 1 data sets"),
        ([path, path], "2 files for 1"),
        ([path + "x"], "not found"),
        (["https://host/rpn_proposals.pkl"], "URL.*rpn_proposals.pkl.*TRAIN.PROPOSAL_FILES"),
    ):
        with pytest.raises(DatasetError, match=fault):
            proposal_paths(files, ["a"], "TRAIN.PROPOSAL_FILES")


def test_proposals_are_clipped_and_small_and_duplicate_ones_are_left_out(records):
    listed = np.array(
        [
            [-5, -5, 50, 50],  # all of the image of 40 x 30 once clipped
            [5, 5, 20, 20],
            [5.2, 4.9, 20.4, 20.1],  # the same pixels
            [7, 7, 8, 20],  # 2 pixels wide
            [7, 7, 9, 20],
            [0, 0, 39, 29],  # the first again
        ]
    )
    record = replace(records[0], proposals=listed)
    found = usable_proposals(record)
    np.testing.assert_array_equal(found, [[0, 0, 39, 29], [5, 5, 20, 20], [7, 7, 9, 20]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(usable_proposals(record, 2), found[:2])
    np.testing.assert_array_equal(usable_proposals(record, -1), found)
    mirrored = usable_proposals(flip_horizontally(record))
    np.testing.assert_array_equal(mirrored[1:], [[19, 5, 34, 20], [30, 7, 32, 20]])
    assert usable_proposals(records[0]).shape == (0, 4)


@pytest.mark.parametrize("seed", range(8))
def test_augmentation_moves_proposals_together_with_objects(make_record, config, seed):
    """A proposal that equals a ground-truth box still equals it after every augmentation."""
    augmentation = config.LIBRA.AUGMENTATION
    augmentation.FLIP_VERTICAL = augmentation.ROTATE90 = augmentation.CROP = True
    augmentation.SCALE_RANGE = (0.5, 2.0)
    boxes = [(5, 5, 20, 15), (2, 8, 38, 28)]
    record = replace(make_record(boxes=boxes), proposals=np.array(boxes))
    for shown in (record, flip_horizontally(record)):
        sample = load_sample(shown, config, np.random.default_rng(seed), True)
        assert len(sample.boxes)
        np.testing.assert_array_equal(sample.proposals, sample.boxes)


def test_testing_uses_the_first_proposals_of_the_file_at_the_test_scale(make_record, config):
    config.TEST.PROPOSAL_LIMIT = 1
    record = replace(make_record(), proposals=_BOXES)
    sample = load_sample(record, config, None, False)
    np.testing.assert_array_equal(sample.proposals, _BOXES[:1] * 2)


def test_training_records_have_their_proposals_and_mirrored_ones(folder, tmp_path, config):
    folder.add_image(boxes=[[2, 3, 10, 12]]).add_image().add_image(boxes=[[2, 3, 10, 12]])
    entry = folder.write()
    config.DATASETS_EXTRA = {"toy": {"im_dir": entry.im_dir, "ann_fn": entry.ann_fn}}
    path = str(tmp_path / "p.pkl")
    # Image 2 has nothing to train on, so the file may do without it.
    write_proposals(path, [1, 3], [_BOXES, _BOXES[:1]], [np.ones(2), np.ones(1)], "")
    records, _ = training_records(["toy"], config, [path])
    assert [(r.image_id, len(r.proposals), r.flipped) for r in records] == [
        (1, 2, False), (3, 1, False), (1, 2, True), (3, 1, True),
    ]  # fmt: skip
    assert os.path.exists(path)
    records, _ = training_records(["toy"], config)
    assert all(record.proposals is None for record in records)
