from __future__ import annotations

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.engine.retinanet_decoding import decode_image
from detectron_ext.geometry.anchors import retinanet_cell_anchors

_CLASSES = 2


def _config(*overrides):
    base = [
        "FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "4", "MODEL.NUM_CLASSES", "3",
        "TEST.NMS", "0.5",
    ]  # fmt: skip
    return configuration.load(None, [*base, *overrides])


def _empty(classes=_CLASSES, groups=1):
    """Outputs in which nothing is found: levels 3 (8x8) and 4 (4x4) of a 64-pixel image."""
    return {
        level: (
            np.zeros((9 * classes, size, size), np.float32),
            np.zeros((9 * groups * 4, size, size), np.float32),
        )
        for level, size in ((3, 8), (4, 4))
    }


def test_a_detection_is_the_anchor_moved_by_its_deltas():
    config = _config()
    outputs = _empty()
    anchor, class_index, y, x = 3, 1, 2, 5
    outputs[3][0][anchor * _CLASSES + class_index, y, x] = 0.9
    outputs[3][1][anchor * 4 : anchor * 4 + 4, y, x] = (0.1, 0, 0, np.log(0.5))
    found = decode_image(outputs, scale=1.0, height=64, width=64, config=config)
    x1, y1, x2, y2 = retinanet_cell_anchors(3, config)[anchor] + np.array([x, y, x, y]) * 8
    width, height = x2 - x1 + 1, y2 - y1 + 1
    expected = [x1 + 0.1 * width, y1 + height / 4, x2 + 0.1 * width, y2 - height / 4]
    np.testing.assert_allclose(found[0, :4], np.clip(expected, 0, 63), rtol=1e-4)
    np.testing.assert_allclose(found[0, 4:], [0.9, class_index + 1], rtol=1e-6)
    assert found.shape == (1, 6) and found.dtype == np.float32


def test_boxes_are_in_pixels_of_the_original_image():
    outputs = _empty()
    outputs[3][0][0, 4, 4] = 0.9
    small = decode_image(outputs, 1.0, 64, 64, _config())
    large = decode_image(outputs, 0.5, 128, 128, _config())
    np.testing.assert_allclose(large[0, :4], small[0, :4] * 2, rtol=1e-5)


def test_boxes_outside_the_image_are_dropped():
    """Clipped to the image they have no area."""
    config = _config("LIBRA.BOX_CONVENTION", "mmdet")
    outputs = _empty()
    outputs[3][0][0, 2, 2] = 0.9
    outputs[3][1][:4, 2, 2] = (-20, 0, 0, 0)  # 20 widths to the left
    outputs[3][0][0, 5, 5] = 0.8
    found = decode_image(outputs, 1.0, 64, 64, config)
    np.testing.assert_allclose(found[:, 4], [0.8])


def test_no_detections_are_an_empty_array():
    assert decode_image(_empty(), 1.0, 64, 64, _config()).shape == (0, 6)


def test_the_coarsest_level_has_no_threshold():
    outputs = _empty()
    outputs[3][0][0, 0, 0] = outputs[4][0][0, 0, 0] = 0.01
    found = decode_image(outputs, 1.0, 64, 64, _config())
    assert len(found) == 1 and found[0, 4] == pytest.approx(0.01)


def test_suppression_is_by_class_and_across_levels():
    outputs = _empty()
    # Aspect ratio 1 of octave 0 at P4's first cell covers much of P3's third octave at (0, 0).
    outputs[3][0][7 * _CLASSES, 1, 1] = 0.8
    outputs[4][0][1 * _CLASSES, 0, 0] = 0.9
    same_class = decode_image(outputs, 1.0, 64, 64, _config("TEST.NMS", "0.3"))
    outputs[3][0][7 * _CLASSES, 1, 1] = 0
    outputs[3][0][7 * _CLASSES + 1, 1, 1] = 0.8
    two_classes = decode_image(outputs, 1.0, 64, 64, _config("TEST.NMS", "0.3"))
    assert len(same_class) == 1 and same_class[0, 4] == pytest.approx(0.9)
    assert len(two_classes) == 2
    assert list(two_classes[:, 4]) == sorted(two_classes[:, 4], reverse=True)


def test_limits_keep_the_highest_scores():
    rng = np.random.default_rng(0)
    outputs = _empty()
    outputs[3][0][:] = rng.uniform(0.1, 0.8, outputs[3][0].shape)
    outputs[3][0][2, 3, 3] = 0.95
    found = decode_image(outputs, 1.0, 64, 64, _config("TEST.DETECTIONS_PER_IM", "5"))
    assert len(found) == 5 and found[0, 4] == pytest.approx(0.95)
    found = decode_image(outputs, 1.0, 64, 64, _config("RETINANET.PRE_NMS_TOP_N", "1"))
    assert len(found) == 1 and found[0, 4] == pytest.approx(0.95)


def test_softmax_leaves_the_background_out():
    outputs = _empty(classes=3)
    outputs[3][0][0, 0, 0] = 0.99  # background of anchor 0
    outputs[3][0][2, 1, 1] = 0.6
    found = decode_image(outputs, 1.0, 64, 64, _config("RETINANET.SOFTMAX", "True"))
    assert len(found) == 1
    np.testing.assert_allclose(found[0, 4:], [0.6, 2], rtol=1e-6)


def test_class_specific_boxes_take_the_deltas_of_their_class():
    outputs = _empty(groups=2)
    outputs[3][0][1, 2, 2] = 0.9  # anchor 0, class 2
    outputs[3][1][4:8, 2, 2] = (0, 0, np.log(2), 0)  # class 2's deltas
    config = _config("RETINANET.CLASS_SPECIFIC_BBOX", "True")
    plain = decode_image(_with(outputs, 0.0), 1.0, 640, 640, config)
    moved = decode_image(outputs, 1.0, 640, 640, config)
    assert moved[0, 2] - moved[0, 0] > plain[0, 2] - plain[0, 0]


def _with(outputs, value):
    return {level: (p, np.full_like(d, value)) for level, (p, d) in outputs.items()}


def test_soft_nms_lowers_scores_instead_of_dropping_boxes():
    outputs = _empty()
    outputs[3][0][0, 4, 4], outputs[3][0][0, 4, 5] = 0.9, 0.8
    config = _config("TEST.SOFT_NMS.ENABLED", "True", "TEST.NMS", "0.1")
    scores = decode_image(outputs, 1.0, 64, 64, config)[:, 4]
    assert len(scores) == 2 and scores[1] < 0.8
