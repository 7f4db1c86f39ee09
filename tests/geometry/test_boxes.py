from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron_ext import config as configuration
from detectron_ext.geometry import boxes as geometry

_BOX = st.tuples(*[st.floats(0, 500, width=32)] * 2, *[st.floats(1, 300, width=32)] * 2)


def _box_array(drawn):
    x, y, width, height = np.array(drawn, dtype=np.float32).reshape(-1, 4).T
    return np.stack((x, y, x + width - 1, y + height - 1), axis=1)


def test_iou_counts_the_last_pixel():
    boxes = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [20, 20, 29, 29]], dtype=np.float32)
    expected = [[1, 50 / 150, 0], [50 / 150, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(geometry.pairwise_iou(boxes, boxes), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_iou_of_no_boxes_is_empty(shape):
    empty = [np.zeros((count, 4), dtype=np.float32) for count in shape]
    assert geometry.pairwise_iou(*empty).shape == shape


@given(st.lists(st.tuples(_BOX, _BOX), min_size=1, max_size=20))
def test_decode_inverts_encode(pairs):
    boxes = _box_array([first for first, _ in pairs])
    targets = _box_array([second for _, second in pairs])
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = geometry.encode(boxes, targets, weights)
    decoded = geometry.decode(boxes, deltas, weights, max_log_scale=20.0)
    np.testing.assert_allclose(decoded, targets, rtol=1e-4, atol=0.05)


def test_decode_limits_growth():
    box = np.array([[0, 0, 9, 9]], dtype=np.float32)
    wild = np.array([[0, 0, 100, 100]], dtype=np.float32)
    widths, _ = geometry.widths_heights(geometry.decode(box, wild))
    assert widths[0] == pytest.approx(10 * 1000 / 16, rel=1e-5)


@given(st.lists(_BOX, min_size=1, max_size=10))
def test_xywh_round_trip(drawn):
    boxes = _box_array(drawn)
    back = geometry.from_xywh(geometry.to_xywh(boxes))
    np.testing.assert_allclose(back, boxes, atol=1e-3)


def test_clip_to_image_keeps_boxes_inside():
    boxes = np.array([[-5, -5, 100, 100], [30, 40, 50, 45]], dtype=np.float32)
    expected = [[0, 0, 63, 47], [30, 40, 50, 45]]
    np.testing.assert_array_equal(geometry.clip_to_image(boxes, 48, 64), expected)


_MMDET = configuration.load(None, ["LIBRA.BOX_CONVENTION", "mmdet"])


def test_boxes_are_scaled_by_their_last_pixels_or_by_their_edges():
    """The box covers pixels 20 to 39 of an image that was enlarged by a factor of 2."""
    boxes = np.array([[20, 20, 39, 39]], dtype=np.float32)
    found = geometry.to_image_pixels(boxes, 2, configuration.load(None))
    np.testing.assert_array_equal(found, [[10, 10, 19.5, 19.5]])
    found = geometry.to_image_pixels(boxes, 2, _MMDET)
    np.testing.assert_array_equal(found, [[10, 10, 19, 19]])


def test_a_detection_outside_is_moved_to_the_border_or_has_no_area():
    boxes = np.array([[-9, -9, -3, 8], [60, 2, 70, 8]], dtype=np.float32)
    found = geometry.clip_detections(boxes, 48, 64, configuration.load(None))
    np.testing.assert_array_equal(found, [[0, 0, 0, 8], [60, 2, 63, 8]])
    assert geometry.has_area(found).all()
    found = geometry.clip_detections(boxes, 48, 64, _MMDET)
    np.testing.assert_array_equal(found, [[0, 0, -1, 8], [60, 2, 63, 8]])
    assert geometry.has_area(found).tolist() == [False, True]
