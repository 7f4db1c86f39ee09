"""The largest IoU with an anchor, compared with all anchors of the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron_ext.config import load
from detectron_ext.geometry.anchors import AnchorGrids, retinanet_anchor_levels, rpn_anchor_levels
from detectron_ext.geometry.best_anchor import best_anchor_overlaps
from detectron_ext.geometry.boxes import pairwise_iou

_PYRAMID = ("FPN.FPN_ON", True, "FPN.MULTILEVEL_RPN", True, "FPN.RPN_MIN_LEVEL", 3)
_RETINANET = retinanet_anchor_levels(load(None, _PYRAMID))
_LEVELS = {
    "retinanet": _RETINANET,
    "mmdet": retinanet_anchor_levels(load(None, (*_PYRAMID, "LIBRA.BOX_CONVENTION", "mmdet"))),
    "rpn": rpn_anchor_levels(load(None, _PYRAMID)),
    "c4": rpn_anchor_levels(load(None)),
}


def brute_force(box, height, width, levels, padded_to, margin):
    padded = [-(-length // padded_to) * padded_to for length in (height, width)]
    anchors = AnchorGrids(levels)(*padded)[0]
    if margin >= 0:
        inside = (anchors[:, :2] >= -margin).all(axis=1)
        inside &= (anchors[:, 2] < width + margin) & (anchors[:, 3] < height + margin)
        anchors = anchors[inside]
    return pairwise_iou(anchors, box[None])[:, 0].max(initial=0)


@pytest.mark.parametrize("name", _LEVELS)
@given(data=st.data())
def test_it_is_that_of_the_best_of_all_anchors(name, data):
    height, width = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    padded_to = data.draw(st.sampled_from([1, 32, 128]))
    margin = data.draw(st.sampled_from([-1, 0, 7, 100]))
    x1 = data.draw(st.floats(0, width - 1, width=32))
    y1 = data.draw(st.floats(0, height - 1, width=32))
    x2 = data.draw(st.floats(x1, width, width=32))
    y2 = data.draw(st.floats(y1, height, width=32))
    box = np.array([x1, y1, x2, y2], dtype=np.float32)
    found = best_anchor_overlaps(
        box[None], np.array([height]), np.array([width]), _LEVELS[name], padded_to, margin
    )
    expected = brute_force(box, height, width, _LEVELS[name], padded_to, margin)
    np.testing.assert_allclose(found, [expected], rtol=1e-4, atol=1e-6)


def test_each_box_has_the_size_of_its_own_image():
    # More boxes than a chunk; the second image is too small for the anchors that fit the first.
    boxes = np.tile(np.array([[0, 0, 31, 31]], dtype=np.float32), (40000, 1))
    sizes = np.where(np.arange(40000) % 2, 20, 200)
    found = best_anchor_overlaps(boxes, sizes, sizes, _LEVELS["rpn"], 1, 0)
    expected = [brute_force(boxes[0], size, size, _LEVELS["rpn"], 1, 0) for size in (200, 20)]
    assert expected[1] == 0 < expected[0]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    np.testing.assert_array_equal(found, np.tile(found[:2], 20000))


def test_no_boxes_give_no_overlaps():
    none = np.zeros((0, 4), dtype=np.float32)
    assert best_anchor_overlaps(none, np.zeros(0), np.zeros(0), _RETINANET).shape == (0,)
