from __future__ import annotations

import numpy as np
import pytest

from detectron_ext.config.keys import KEYS
from detectron_ext.geometry.box_voting import vote

_BOXES = np.array([[0, 0, 99, 99], [0, 0, 89, 99], [0, 0, 49, 99]], np.float32)
_SCORES = np.array([0.8, 0.4, 0.6], np.float32)


def _vote(method, beta=1.0, threshold=0.8):
    return vote(_BOXES[:1], _SCORES[:1], _BOXES, _SCORES, threshold, method, beta)


def test_the_box_is_the_mean_of_its_neighbours_weighted_by_score():
    boxes, scores = _vote("ID")
    np.testing.assert_allclose(boxes, [[0, 0, (0.8 * 99 + 0.4 * 89) / 1.2, 99]], rtol=1e-6)
    assert scores == pytest.approx([0.8]) and boxes.dtype == scores.dtype == np.float32


@pytest.mark.parametrize(
    "method, beta, expected",
    [
        ("AVG", 1, 0.6),
        ("IOU_AVG", 1, (0.8 * 1 + 0.4 * 0.9) / 1.9),
        ("TEMP_AVG", 1, 0.6),  # at temperature 1 the softmax gives the scores back
        ("TEMP_AVG", 0.5, (0.64 / 0.68 + 0.16 / 0.52) / 2),
        ("GENERALIZED_AVG", 2, np.sqrt((0.64 + 0.16) / 2)),
        ("QUASI_SUM", 0.5, 1.2 / np.sqrt(2)),
    ],
)
def test_scores(method, beta, expected):
    assert _vote(method, beta)[1] == pytest.approx([expected], rel=1e-5)


def test_every_method_of_the_configuration_is_known():
    for method in KEYS["TEST.BBOX_VOTE.SCORING_METHOD"].choices:
        assert np.isfinite(_vote(method)[1]).all()
    with pytest.raises(ValueError, match="NO"):
        _vote("NO")


def test_alone_or_absent():
    boxes, scores = _vote("AVG", threshold=1.0)
    np.testing.assert_allclose(boxes, _BOXES[:1], rtol=1e-6)
    assert scores == pytest.approx([0.8])
    empty = _BOXES[:0], _SCORES[:0]
    assert [len(part) for part in vote(*empty, *empty, 0.8)] == [0, 0]
