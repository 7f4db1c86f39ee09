from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.geometry.boxes import encode
from detectron_ext.sampling.box_sampler import BoxSampler
from detectron_ext.sampling.proposal_targets import (
    ProposalTargets,
    draw_regions,
    proposal_blob_names,
)

_PYRAMID = ["FPN.FPN_ON", "True", "FPN.MULTILEVEL_ROIS", "True"]
_NO_GT = np.zeros((0, 7), np.float32)
_NO_ROIS = np.zeros((0, 5), np.float32)
# Image 0: a square of class 2 and one of class 3; image 1: one of class 1.
_GT = np.array(
    [[0, 0, 0, 99, 99, 2, 0], [0, 200, 0, 299, 99, 3, 0], [1, 0, 0, 99, 99, 1, 0]], np.float32
)


def _config(*overrides):
    return configuration.load(None, ["MODEL.NUM_CLASSES", "4", *overrides])


def _strip(image, iou, left=0):
    """Return a proposal that has this overlap with the square at (left, 0)."""
    return [image, left, 0, left + 100 * iou - 1, 99]


def _rois(*rows):
    return np.array(rows, np.float32).reshape(-1, 5)


def _targets(rois, gt=_GT, *overrides, seed=0):
    return ProposalTargets(_config(*overrides))(rois, gt, seed)


def _rows(blobs):
    """Return a dict of regions to labels, so that the random order does not matter."""
    return dict(zip(map(tuple, blobs["rois"].tolist()), blobs["labels_int32"].tolist()))


def test_labels_follow_the_thresholds_and_ground_truth_counts_as_a_proposal():
    rois = _rois(
        _strip(0, 0.6), _strip(0, 0.49, 200), _strip(0, 0.2), _strip(0, 0.05), _strip(1, 0.5)
    )
    blobs = _targets(rois, _GT, "TRAIN.BG_THRESH_LO", "0.1", "TRAIN.FG_FRACTION", "0.5")
    truth = {tuple(row[:5]): int(row[5]) for row in _GT.tolist()}
    expected = {
        **truth,
        tuple(rois[0]): 2,
        tuple(rois[1]): 0,
        tuple(rois[2]): 0,
        tuple(rois[4]): 1,
    }
    assert _rows(blobs) == expected  # 0.05 is below BG_THRESH_LO: neither
    foreground = blobs["labels_int32"] > 0
    # Image by image, foreground first.
    np.testing.assert_array_equal(foreground, [1, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(blobs["rois"][:, 0], [0, 0, 0, 0, 0, 1, 1])


def test_thresholds_include_their_own_value():
    config = _config(
        "TRAIN.FG_THRESH", "0.75", "TRAIN.BG_THRESH_HI", "0.5", "TRAIN.BG_THRESH_LO", "0.125"
    )
    overlaps = np.array([0.76, 0.75, 0.74, 0.5, 0.49, 0.125, 0.12], np.float32)
    sampler = BoxSampler(config.LIBRA.SAMPLER, config.TRAIN.BG_THRESH_HI)
    matched, rng = np.zeros(len(overlaps), np.int64), np.random.default_rng(0)
    foreground, background = draw_regions(config.TRAIN, sampler, matched, overlaps, rng)
    assert sorted(foreground) == [0, 1] and sorted(background) == [4, 5]


@pytest.mark.parametrize("size, most", [("10", 2), ("14", 4), ("13", 3)])  # 2.5, 3.5, 3.25
def test_the_number_of_foreground_regions_is_rounded(size, most):
    labels = _targets(_rois(*_many(0, 0.6, 50)), _GT[:1], "TRAIN.BATCH_SIZE_PER_IM", size)
    assert len(labels["labels_int32"]) == most


@pytest.mark.parametrize("agnostic", [False, True])
def test_deltas_are_in_the_columns_of_their_class_with_weight_1(agnostic):
    roi = _rois(_strip(0, 0.6))
    blobs = _targets(roi, _GT, "MODEL.CLS_AGNOSTIC_BBOX_REG", str(agnostic))
    index = int(np.flatnonzero((blobs["rois"] == roi[0]).all(axis=1)))
    place = 4 if agnostic else 8
    expected = np.zeros(8 if agnostic else 16, np.float32)
    expected[place : place + 4] = encode(roi[:, 1:], _GT[:1, 1:5], (10, 10, 5, 5))[0]
    np.testing.assert_allclose(blobs["bbox_targets"][index], expected)
    expected[place : place + 4] = 1
    for kind in ("inside", "outside"):
        weights = blobs[f"bbox_{kind}_weights"]
        np.testing.assert_array_equal(weights[index], expected)
        np.testing.assert_array_equal(weights.sum(axis=1), 4 * (blobs["labels_int32"] > 0))


def test_background_close_to_an_object_may_train_its_box():
    """If BBOX_THRESH is below FG_THRESH, Detectron regresses boxes labelled as background."""
    roi = _rois(_strip(0, 0.4))
    blobs = _targets(roi, _GT, "TRAIN.BBOX_THRESH", "0.3")
    index = int(np.flatnonzero((blobs["rois"] == roi[0]).all(axis=1)))
    assert blobs["labels_int32"][index] == 0
    np.testing.assert_array_equal(np.flatnonzero(blobs["bbox_inside_weights"][index]), range(8, 12))


def _many(image, iou, count):
    return [_strip(image, iou + 0.001 * index) for index in range(count)]


def test_a_batch_is_not_larger_than_configured():
    rois = _rois(*_many(0, 0.6, 50), *_many(0, 0.1, 100), *_many(1, 0.1, 5))
    labels = _targets(rois, _GT, "TRAIN.BATCH_SIZE_PER_IM", "32")
    image = labels["rois"][:, 0]
    foreground = labels["labels_int32"] > 0
    assert [(foreground & (image == i)).sum() for i in (0, 1)] == [8, 1]
    assert [(~foreground & (image == i)).sum() for i in (0, 1)] == [24, 5]
    assert len(np.unique(labels["rois"], axis=0)) == len(labels["rois"])


def test_a_batch_without_background_is_not_filled_up():
    blobs = _targets(_rois(*_many(0, 0.6, 50)), _GT[:1], "TRAIN.BATCH_SIZE_PER_IM", "32")
    assert blobs["labels_int32"].tolist() == [2] * 8


def test_images_may_lack_objects_and_proposals():
    rois = _rois(*_many(0, 0.1, 5))
    assert _targets(rois, _NO_GT)["labels_int32"].tolist() == [0] * 5
    only_truth = _targets(_NO_ROIS, _GT)
    assert _rows(only_truth) == {tuple(row[:5]): int(row[5]) for row in _GT.tolist()}


@pytest.mark.parametrize("rois", [_NO_ROIS, _rois(_strip(0, 0.2))])
def test_a_batch_with_nothing_to_sample_has_one_background_region(rois):
    blobs = _targets(rois, _NO_GT, "TRAIN.BG_THRESH_LO", "0.1", *_PYRAMID)
    np.testing.assert_array_equal(blobs["rois"], [[0, 0, 0, 0, 0]])
    assert blobs["labels_int32"].tolist() == [0]
    assert not blobs["bbox_outside_weights"].any() and len(blobs["rois_fpn2"]) == 1


def test_proposals_in_a_crowd_are_ignored_and_a_crowd_is_not_an_object():
    crowd = np.array([[0, 300, 0, 399, 99, 2, 1]], np.float32)
    rois = _rois([0, 300, 0, 399, 99], [0, 290, 0, 349, 99], _strip(0, 0.3))
    gt = np.concatenate((_GT[:2], crowd))
    found = _rows(_targets(rois, gt))
    assert set(found) == {tuple(_GT[0, :5]), tuple(_GT[1, :5]), tuple(rois[2])}
    kept = _rows(_targets(rois, gt, "TRAIN.CROWD_FILTER_THRESH", "0.0"))
    assert kept[tuple(rois[0])] == kept[tuple(rois[1])] == 0


def test_two_objects_with_the_same_box_keep_their_classes():
    gt = np.array([[0, 0, 0, 99, 99, 2, 0], [0, 0, 0, 99, 99, 3, 0]], np.float32)
    assert sorted(_targets(_NO_ROIS, gt)["labels_int32"]) == [2, 3]


def test_blobs_have_the_names_types_and_levels_of_the_net():
    config = _config(*_PYRAMID)
    rois = _rois(*_many(0, 0.1, 5), [1, 0, 0, 500, 500])
    blobs = ProposalTargets(config)(rois, _GT, 0)
    assert list(blobs) == proposal_blob_names(config)
    for name, blob in blobs.items():
        assert blob.dtype == (np.int32 if name.endswith("int32") else np.float32), name
        assert blob.flags.c_contiguous, name
    levels = np.concatenate([blobs[f"rois_fpn{level}"] for level in range(2, 6)])
    np.testing.assert_array_equal(levels[blobs["rois_idx_restore_int32"]], blobs["rois"])
    assert blobs["rois_fpn5"].shape == (1, 5) and blobs["rois_fpn4"].shape == (0, 5)
    assert list(ProposalTargets(_config())(rois, _GT, 0)) == proposal_blob_names(_config())


def test_the_seed_determines_the_draw():
    rois = _rois(*_many(0, 0.1, 200))
    one, same, other = (_targets(rois, _GT, seed=seed)["rois"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_configured_samplers_are_used():
    rois = _rois(*_many(0, 0.01, 80), *_many(0, 0.4, 20), *_many(0, 0.55, 90), _strip(0, 0.6, 200))
    options = ["TRAIN.BATCH_SIZE_PER_IM", "32"]
    balanced = [
        "LIBRA.SAMPLER.NEGATIVE",
        "iou_balanced",
        "LIBRA.SAMPLER.POSITIVE",
        "instance_balanced",
    ]
    blobs = _targets(rois, _GT[:2], *options, *balanced)
    labels = blobs["labels_int32"].tolist()
    assert (
        labels.count(3) == 2 and labels.count(2) == 6
    )  # class 3 has two, its ground-truth box included
    background = blobs["rois"][blobs["labels_int32"] == 0]
    assert (
        8 <= (background[:, 3] >= 39).sum() <= 12
    )  # one third of the draw, and a part of the second


def test_sampled_regions_are_counted_for_the_log():
    rois = _rois(_strip(0, 0.6), _strip(0, 0.1), _strip(0, 0.4), _strip(1, 0.45))
    counts = _targets(rois, _GT)["sampling_counts_roi"]
    # The bins are 1/6 wide. 3 negatives; 4 positives, 2 of them belong to the same object.
    assert counts.tolist() == [1, 0, 2, 3, 4, 4 + 1 + 1, 3, 0, 2]


def test_bins_end_at_the_threshold_of_background():
    rois = _rois(_strip(0, 0.05), _strip(0, 0.15), _strip(0, 0.25), _strip(0, 0.28))
    counts = _targets(rois, _GT[:1], "TRAIN.BG_THRESH_HI", "0.3")["sampling_counts_roi"]
    assert counts[:4].tolist() == [1, 1, 2, 4]  # the bins are 1/10 wide
