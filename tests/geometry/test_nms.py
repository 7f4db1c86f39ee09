from __future__ import annotations

import numpy as np
import pytest

from detectron_ext.geometry.nms import nms, soft_nms

_BOXES = np.array([[0, 0, 9, 9], [1, 0, 10, 9], [50, 50, 59, 59], [0, 0, 9, 9]], dtype=np.float32)
_SCORES = np.array([0.6, 0.9, 0.5, 0.6], dtype=np.float32)


def test_nms_keeps_the_best_of_each_cluster_best_first():
    np.testing.assert_array_equal(nms(_BOXES, _SCORES, 0.5), [1, 2])


def test_nms_with_a_threshold_above_1_keeps_all_boxes_and_the_order_of_ties():
    np.testing.assert_array_equal(nms(_BOXES, _SCORES, 1.1), [1, 0, 3, 2])


def test_nms_of_no_boxes_is_empty():
    assert len(nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5)) == 0


def test_soft_nms_linear_lowers_by_the_overlap():
    keep, scores = soft_nms(_BOXES, _SCORES, threshold=0.5, method="linear")
    iou = 90 / 110
    np.testing.assert_array_equal(keep, [1, 2, 0])
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.6 * (1 - iou)], rtol=1e-5)


def test_soft_nms_hard_equals_nms():
    keep, _ = soft_nms(_BOXES, _SCORES, threshold=0.5, method="hard")
    np.testing.assert_array_equal(keep, nms(_BOXES, _SCORES, 0.5))


def test_soft_nms_gaussian_lowers_by_a_gaussian_of_the_overlap():
    _, scores = soft_nms(_BOXES[:2], _SCORES[:2], sigma=0.5, method="gaussian")
    iou = 90 / 110
    np.testing.assert_allclose(scores, [0.9, 0.6 * np.exp(-(iou**2) / 0.5)], rtol=1e-5)


def test_soft_nms_names_an_unknown_method():
    with pytest.raises(ValueError, match="gauss"):
        soft_nms(_BOXES, _SCORES, method="gauss")
