"""GenerateProposals on the CPU against Caffe2's own, and in cases that Caffe2's own cannot handle.

`tests/modeling/test_proposals.py` checks it against Detectron's rules, box by box.
"""

from __future__ import annotations

import numpy as np
import pytest
from native_runner import assert_close, needs_native, run_operator

pytestmark = needs_native

ANCHORS = np.float32([[-8, -8, 23, 23], [-20, -4, 35, 19], [0, 0, 15, 15]])
IM_INFO = np.float32([[100, 120, 1.5], [60, 130, 0.7]])
STOCK = "GenerateProposalsCPP"


def _inputs(seed=0, spread=0.4):
    random = np.random.default_rng(seed)
    scores = random.permutation(2 * 3 * 7 * 9).reshape(2, 3, 7, 9).astype(np.float32) / 500
    deltas = random.normal(0, spread, (2, 12, 7, 9)).astype(np.float32)
    return [scores, deltas, IM_INFO, ANCHORS]


def _run(inputs, operator="GenerateProposals", **arguments):
    arguments = {"spatial_scale": 1 / 16, "min_size": 0.0, **arguments}
    return run_operator(operator, inputs, outputs=2, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pre_nms_topN": 60, "post_nms_topN": 15},
        {"nms_thresh": 0.3, "min_size": 16.0},
        {"nms_thresh": 1.0, "pre_nms_topN": 40},
        {"nms_thresh": 0.0},
        {"legacy_plus_one": 0},
        {"pre_nms_topN": 0, "post_nms_topN": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("spread", [0.4, 3.0])
def test_proposals_equal_those_of_caffe2(arguments, spread):
    inputs = _inputs(spread=spread)
    (rois, scores), (stock_rois, stock_scores) = (
        _run(inputs, operator, **arguments) for operator in ("GenerateProposals", STOCK)
    )
    assert len(rois) > 10
    assert np.array_equal(scores, stock_scores)
    assert_close(rois, stock_rois)


def test_rotated_boxes_use_caffe2s_operator():
    scores, _, im_info, anchors = _inputs()
    deltas = np.random.default_rng(1).normal(0, 0.2, (2, 15, 7, 9)).astype(np.float32)
    size = anchors[:, 2:] - anchors[:, :2]
    rotated = np.hstack((anchors[:, :2] + size / 2, size, np.zeros((3, 1)))).astype(np.float32)
    results = [
        _run([scores, deltas, im_info, rotated], operator)
        for operator in ("GenerateProposals", STOCK)
    ]
    assert results[0][0].shape[1] == 6
    assert all(np.array_equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("changed", ["score", "dx", "dy", "dw", "dh"])
def test_a_number_that_is_not_finite_gives_no_proposal(value, changed):
    """The same rule for a score and for each delta. The other anchors are not affected."""
    scores, deltas, *rest = _inputs()
    without = scores.copy()
    without[0, 1, 2:5] = np.nan
    expected = _run([without, deltas, *rest])
    if changed == "score":
        scores[0, 1, 2:5] = value
    else:
        deltas[0, 4 + ["dx", "dy", "dw", "dh"].index(changed), 2:5] = value
    rois, probabilities = _run([scores, deltas, *rest])
    np.testing.assert_array_equal(rois, expected[0])
    np.testing.assert_array_equal(probabilities, expected[1])
    assert np.isfinite(rois).all() and len(rois) > 10


def test_no_proposal_is_made_without_finite_numbers():
    scores, *rest = _inputs()
    rois, probabilities = _run([np.full_like(scores, np.nan), *rest])
    assert rois.shape == (0, 5) and probabilities.shape == (0,)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("sign", [-1, 1])
def test_huge_finite_deltas_are_clipped_to_the_image(index, sign):
    """A box that is moved out of the image leaves a line at its side. A huge size is capped."""
    scores, deltas, im_info, anchors = _inputs()
    deltas[:, index::4] = sign * 3e38
    rois, _ = _run([scores, deltas, im_info, anchors])
    assert np.isfinite(rois).all() and len(rois) > 0
    for image, (height, width, _) in enumerate(im_info):
        boxes = rois[rois[:, 0] == image, 1:]
        assert (boxes >= 0).all() and (boxes <= [width - 1, height - 1] * 2).all()


def test_equal_scores_keep_the_order_of_the_anchors():
    _, deltas, *rest = _inputs()
    scores = np.full((2, 3, 7, 9), 0.5, np.float32)
    everything, _ = _run([scores, deltas, *rest], nms_thresh=1.0, pre_nms_topN=0)
    first, _ = _run([scores, deltas, *rest], nms_thresh=1.0, pre_nms_topN=30)
    for image in (0, 1):
        mine = first[first[:, 0] == image]
        assert np.array_equal(mine, everything[everything[:, 0] == image][: len(mine)])


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (2, 4, 7, 9), r"scores of shape \[2, 4, 7, 9\].*anchors of shape \[3, 4\]"),
        (1, (2, 12, 7, 8), r"deltas of shape \[2, 12, 7, 8\]"),
        (2, (1, 3), r"image sizes of shape \[1, 3\]"),
        (3, (12,), r"anchors of shape \[12\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(index, shape, message):
    inputs = _inputs()
    inputs[index] = np.zeros(shape, np.float32)
    with pytest.raises(RuntimeError, match="GenerateProposals: " + message):
        _run(inputs)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale):
    with pytest.raises(RuntimeError, match="GenerateProposals: spatial_scale is"):
        _run(_inputs(), spatial_scale=scale)
