"""NaN and infinite scores and deltas drop their candidate, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.engine.rcnn_decoding import decode_regions
from detectron_ext.engine.retinanet_decoding import decode_image
from detectron_ext.engine.suppression import best_detections
from detectron_ext.geometry.boxes import clip_to_image, decode

NOT_FINITE = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
CONVENTIONS = pytest.mark.parametrize("convention", ["detectron", "mmdet"])
SUPPRESSIONS = pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("TEST.SOFT_NMS.ENABLED", "True", "TEST.SOFT_NMS.METHOD", "linear"),
        ("TEST.SOFT_NMS.ENABLED", "True", "TEST.SOFT_NMS.METHOD", "gaussian"),
        ("TEST.SOFT_NMS.ENABLED", "True", "TEST.SOFT_NMS.METHOD", "hard"),
        *(
            ("TEST.BBOX_VOTE.ENABLED", "True", "TEST.BBOX_VOTE.SCORING_METHOD", method)
            for method in ("ID", "AVG", "IOU_AVG", "TEMP_AVG", "GENERALIZED_AVG", "QUASI_SUM")
        ),
    ],
)


def _config(*overrides):
    base = ["FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "4", "MODEL.NUM_CLASSES", "3"]
    return configuration.load(None, [*base, *overrides])


def _retinanet_outputs(deltas=(0, 0, 0, 0), score=0.9):
    """Two candidates of one class; the first has the given deltas and score."""
    outputs = {
        level: (np.zeros((18, size, size), np.float32), np.zeros((36, size, size), np.float32))
        for level, size in ((3, 8), (4, 4))
    }
    outputs[3][0][0, 1, 1], outputs[3][0][0, 6, 6] = score, 0.8
    outputs[3][1][:4, 1, 1] = deltas
    return outputs


@NOT_FINITE
@CONVENTIONS
@pytest.mark.parametrize("place", range(4))
def test_retinanet_drops_a_candidate_with_a_delta_that_is_not_finite(bad, convention, place):
    config = _config("LIBRA.BOX_CONVENTION", convention)
    assert len(decode_image(_retinanet_outputs(), 1.0, 64, 64, config)) == 2
    deltas = np.zeros(4)
    deltas[place] = bad
    found = decode_image(_retinanet_outputs(deltas), 1.0, 64, 64, config)
    np.testing.assert_allclose(found[:, 4], [0.8])
    assert np.isfinite(found).all()


@NOT_FINITE
@pytest.mark.parametrize("level", [3, 4])
def test_retinanet_drops_a_candidate_with_a_score_that_is_not_finite(bad, level):
    outputs = _retinanet_outputs(score=0)
    outputs[level][0][2, 1, 1] = bad
    # It must not take the only place either.
    found = decode_image(outputs, 1.0, 64, 64, _config("RETINANET.PRE_NMS_TOP_N", "1"))
    np.testing.assert_allclose(found[:, 4], [0.8])


def _regions(deltas=(0, 0, 0, 0), score=0.9):
    boxes = np.array([[10, 10, 49, 49], [100, 20, 179, 99]], np.float32)
    probabilities = np.array([[0.1, score, 0], [0.2, 0.8, 0]], np.float32)
    moves = np.zeros((2, 12), np.float32)
    moves[0, 4:8] = deltas
    return boxes, probabilities, moves


@NOT_FINITE
@CONVENTIONS
@pytest.mark.parametrize("place", range(4))
def test_the_box_head_drops_a_region_with_a_delta_that_is_not_finite(bad, convention, place):
    config = _config("LIBRA.BOX_CONVENTION", convention)
    assert len(decode_regions(*_regions(), 120, 200, config)) == 2
    deltas = np.zeros(4)
    deltas[place] = bad
    found = decode_regions(*_regions(deltas), 120, 200, config)
    np.testing.assert_allclose(found[:, 4], [0.8])
    assert np.isfinite(found).all()


@NOT_FINITE
def test_the_box_head_drops_a_region_with_a_score_that_is_not_finite(bad):
    found = decode_regions(*_regions(score=bad), 120, 200, _config())
    np.testing.assert_allclose(found[:, 4], [0.8])


@NOT_FINITE
@SUPPRESSIONS
@pytest.mark.parametrize("place", ["score", 0, 1, 2, 3])
def test_dropped_candidates_do_not_change_suppression_and_voting(bad, overrides, place):
    config = _config(*overrides)
    boxes = np.array([[10, 10, 49, 49]] * 3 + [[12, 10, 51, 49]], np.float32)
    scores = np.array([0.9, 0.95, 0.8, 0.7], np.float32)
    classes = np.array([1, 1, 1, 1])
    if place == "score":
        scores[1] = bad
    else:
        boxes[1, place] = bad
    rest = [0, 2, 3]
    expected = best_detections(boxes[rest], scores[rest], classes[rest], config)
    np.testing.assert_array_equal(best_detections(boxes, scores, classes, config), expected)
    assert len(expected) and np.isfinite(expected).all()


@pytest.mark.parametrize("delta, x", [(3e38, 119), (-3e38, 0)])
def test_a_box_that_overflows_is_clipped(delta, x):
    boxes, deltas = np.array([[0, 0, 99, 99]] * 2, np.float32), np.zeros((2, 4), np.float32)
    deltas[0, 0] = delta
    moved = clip_to_image(decode(boxes, deltas), 100, 120)
    np.testing.assert_array_equal(moved, [[x, 0, x, 99], [0, 0, 99, 99]])


@SUPPRESSIONS
def test_boxes_without_area_overlap_fully(overrides):
    """Their IoU would be 0 / 0, which must not become a score."""
    boxes = np.array([[5, 5, 4, 9], [5, 5, 4, 9], [20, 20, 29, 29]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    found = best_detections(boxes, scores, np.array([1, 1, 1]), _config(*overrides))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0, 4], 0.9)
