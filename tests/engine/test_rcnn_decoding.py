from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.engine.rcnn_decoding import decode_regions, merge_duplicates
from detectron_ext.geometry.boxes import encode

_BOXES = np.array([[10, 10, 49, 49], [100, 20, 179, 99]], np.float32)


def _config(*overrides):
    return configuration.load(None, ["MODEL.NUM_CLASSES", "3", *overrides])


def _outputs(*scores, groups=3):
    probabilities = np.array(scores, np.float32)
    return probabilities, np.zeros((len(scores), 4 * groups), np.float32)


def _decode(probabilities, deltas, *overrides, boxes=_BOXES, height=120, width=200):
    return decode_regions(boxes, probabilities, deltas, height, width, _config(*overrides))


def test_each_class_moves_the_region_by_its_own_deltas():
    target = np.array([[14, 8, 60, 50]], np.float32)
    probabilities, deltas = _outputs((0.1, 0.3, 0.6), (0.96, 0.02, 0.02))
    deltas[0, 8:12] = encode(_BOXES[:1], target, (10, 10, 5, 5))[0]
    found = _decode(probabilities, deltas)
    np.testing.assert_allclose(found[0], [*target[0], 0.6, 2], rtol=1e-5)
    np.testing.assert_allclose(found[1], [*_BOXES[0], 0.3, 1], rtol=1e-5)
    assert found.shape == (2, 6) and found.dtype == np.float32  # 0.02 is below SCORE_THRESH


def test_class_agnostic_deltas_come_from_the_second_group():
    target = np.array([[14, 8, 60, 50]], np.float32)
    probabilities, deltas = _outputs((0.1, 0.3, 0.6), (0.96, 0.02, 0.02), groups=2)
    deltas[0, 4:] = encode(_BOXES[:1], target, (10, 10, 5, 5))[0]
    found = _decode(probabilities, deltas, "MODEL.CLS_AGNOSTIC_BBOX_REG", "True")
    np.testing.assert_allclose(found[:, :4], [target[0], target[0]], rtol=1e-5)


def test_boxes_are_clipped_to_the_image():
    probabilities, deltas = _outputs((0.1, 0.9, 0), (1, 0, 0))
    found = _decode(probabilities, deltas, height=40, width=45)
    np.testing.assert_array_equal(found[0, :4], [10, 10, 44, 39])


def test_regions_keep_their_boxes_without_regression():
    probabilities, deltas = _outputs((0.1, 0.9, 0), (1, 0, 0))
    deltas[:] = 3
    found = _decode(probabilities, deltas, "TEST.BBOX_REG", "False")
    np.testing.assert_array_equal(found[0, :4], _BOXES[0])


def test_suppression_is_within_a_class_and_the_best_are_kept():
    boxes = np.repeat(_BOXES[:1], 3, axis=0)
    probabilities, deltas = _outputs((0, 0.9, 0.1), (0.2, 0.8, 0), (0.3, 0, 0.7))
    found = _decode(probabilities, deltas, boxes=boxes)
    np.testing.assert_allclose(found[:, 4:], [[0.9, 1], [0.7, 2]], rtol=1e-6)
    best = _decode(probabilities, deltas, "TEST.DETECTIONS_PER_IM", "1", boxes=boxes)
    np.testing.assert_array_equal(best, found[:1])
    unlimited = _decode(probabilities, deltas, "TEST.DETECTIONS_PER_IM", "0", boxes=boxes)
    np.testing.assert_array_equal(unlimited, found)
    soft = _decode(probabilities, deltas, "TEST.SOFT_NMS.ENABLED", "True", boxes=boxes)
    assert len(soft) >= len(found) and soft[0, 4] == pytest.approx(0.9)


def test_voting_moves_what_suppression_keeps():
    boxes = np.array([[0, 0, 99, 99], [0, 0, 97, 99]], np.float32)
    probabilities, deltas = _outputs((0.2, 0.8, 0), (0.6, 0.4, 0))
    found = _decode(probabilities, deltas, "TEST.BBOX_VOTE.ENABLED", "True", boxes=boxes)
    assert len(found) == 1 and found[0, 2] == pytest.approx((0.8 * 99 + 0.4 * 97) / 1.2)


def test_no_regions_or_only_low_scores_give_no_detections():
    empty = np.zeros((0, 3), np.float32), np.zeros((0, 12), np.float32)
    assert _decode(*empty, boxes=_BOXES[:0]).shape == (0, 6)
    assert _decode(*_outputs((1, 0, 0), (1, 0, 0))).shape == (0, 6)


def test_proposals_that_pool_the_same_features_run_once():
    boxes = np.array([[16, 16, 64, 64], [300, 16, 364, 64], [18, 14, 66, 60]], np.float32)
    first, which = merge_duplicates(boxes, _config())
    np.testing.assert_array_equal(boxes[first][which], boxes[[0, 1, 0]])
    assert len(first) == 2
    first, which = merge_duplicates(boxes, _config("DEDUP_BOXES", "0.0"))
    np.testing.assert_array_equal(first[which], [0, 1, 2])
