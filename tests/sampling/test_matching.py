from __future__ import annotations

import numpy as np
import pytest

from detectron_ext.geometry.boxes import pairwise_iou
from detectron_ext.sampling.matching import covered_fraction, lies_in_crowd, match_boxes


def _boxes(rng, count):
    corner = rng.integers(0, 40, (count, 2))
    return np.hstack((corner, corner + rng.integers(1, 30, (count, 2)))).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_match_is_the_first_largest_overlap(seed):
    rng = np.random.default_rng(seed)
    boxes, truth = _boxes(rng, 50), _boxes(rng, 6)
    truth[4] = truth[1]  # two objects with the same box
    truth[5] += 1000  # an object that no box touches
    iou = pairwise_iou(boxes, truth)
    matched, overlaps, is_best = match_boxes(boxes, truth)
    np.testing.assert_array_equal(matched, iou.argmax(axis=1))
    np.testing.assert_array_equal(overlaps, iou.max(axis=1))
    expected = {
        row for column in range(5) for row in np.flatnonzero(iou[:, column] == iou[:, column].max())
    }
    assert set(np.flatnonzero(is_best)) == expected


def test_matching_without_ground_truth_or_boxes():
    boxes = _boxes(np.random.default_rng(0), 3)
    empty = np.zeros((0, 4), np.float32)
    matched, overlaps, is_best = match_boxes(boxes, empty)
    assert not matched.any() and not overlaps.any() and not is_best.any()
    assert [len(part) for part in match_boxes(empty, boxes)] == [0, 0, 0]


def test_covered_fraction_is_relative_to_the_box_and_not_to_the_union():
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [50, 50, 59, 59]], np.float32)
    crowds = np.array([[0, 0, 9, 99], [0, 0, 1, 1]], np.float32)
    np.testing.assert_allclose(covered_fraction(boxes, crowds), [1, 0.5, 0])
    np.testing.assert_array_equal(covered_fraction(boxes, crowds[:0]), 0)


def test_boxes_in_a_crowd_are_found_by_a_fraction_and_0_turns_this_off():
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [50, 50, 59, 59]], np.float32)
    crowds = np.array([[0, 0, 9, 99]], np.float32)
    for threshold, expected in (
        (0.5, [True, False, False]),
        (0.4, [True, True, False]),
        (0.0, [False] * 3),
        (-1.0, [False] * 3),
    ):
        found = lies_in_crowd(boxes, crowds, threshold)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(lies_in_crowd(boxes, crowds[:0], 0.5), False)
