from __future__ import annotations

import decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_every_method_computes_its_score(method, beta, expected):
    assert _vote(method, beta)[1] == pytest.approx([expected], rel=1e-5)


def test_every_method_of_the_configuration_is_known():
    for method in KEYS["TEST.BBOX_VOTE.SCORING_METHOD"].choices:
        assert np.isfinite(_vote(method)[1]).all()
    with pytest.raises(ValueError, match="NO"):
        _vote("NO")


def test_a_box_without_neighbours_stays_and_no_boxes_give_none():
    boxes, scores = _vote("AVG", threshold=1.0)
    np.testing.assert_allclose(boxes, _BOXES[:1], rtol=1e-6)
    assert scores == pytest.approx([0.8])
    empty = _BOXES[:0], _SCORES[:0]
    assert [len(part) for part in vote(*empty, *empty, 0.8)] == [0, 0]


def _score(method, beta, *scores):
    """The score that boxes in one place give the first of them."""
    boxes, scores = np.repeat(_BOXES[:1], len(scores), axis=0), np.array(scores, np.float32)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        moved, found = vote(boxes[:1], scores[:1], boxes, scores, 0.5, method, beta)
    np.testing.assert_allclose(moved, boxes[:1], rtol=1e-6)
    return found[0]


@pytest.mark.parametrize(
    "method, beta, scores, limit",
    [
        # A low temperature decides for or against the object; one half stays undecided.
        ("TEMP_AVG", 1e-3, (0.9, 0.6), 1),
        ("TEMP_AVG", 1e-300, (0.9, 0.4), 0.5),
        ("TEMP_AVG", 5e-324, (0.5, 0.5), 0.5),
        ("TEMP_AVG", 1e-3, (0.25, 0.1), 0),
        ("TEMP_AVG", 1e300, (0.9, 0.1), 0.5),
        ("TEMP_AVG", 1e300, (1, 0), 0.5),
        ("TEMP_AVG", 1, (1, 0), 0.5),
        ("TEMP_AVG", 1e-3, (1, 1), 1),
        ("TEMP_AVG", -1, (0.75, 0.5), 0.375),
        # The power mean lies between the smallest and the largest; near 0 it is geometric.
        ("GENERALIZED_AVG", 1e300, (0.9, 0.1), 0.9),
        ("GENERALIZED_AVG", 1e4, (0.5, 0.5), 0.5),
        ("GENERALIZED_AVG", -1e300, (0.9, 0.1), 0.1),
        ("GENERALIZED_AVG", 1e-12, (0.9, 0.1), 0.3),
        ("GENERALIZED_AVG", 5e-324, (0.9, 0.1), 0.3),
        ("GENERALIZED_AVG", -5e-324, (0.9, 0.1), 0.3),
        ("GENERALIZED_AVG", -1, (0.5, 0.25), 1 / 3),
        ("GENERALIZED_AVG", 2, (0.8, 0), 0.8 / np.sqrt(2)),
        ("GENERALIZED_AVG", 1e-12, (0.8, 0), 0),
        ("GENERALIZED_AVG", -2, (0.8, 0), 0),
        ("GENERALIZED_AVG", 3, (1, 1, 1), 1),
        ("QUASI_SUM", 0, (0.5, 0.25), 0.75),
        ("QUASI_SUM", 1e300, (0.5, 0.25), 0),
        ("QUASI_SUM", 1e300, (0.5,), 0.5),
        ("QUASI_SUM", -1e300, (0.5, 0.25), np.finfo(np.float32).max),
        ("AVG", 1, (1, 0), 0.5),
        ("IOU_AVG", 1, (1, 0), 0.5),
    ],
)
def test_scores_at_extreme_values_reach_their_limits(method, beta, scores, limit):
    assert _score(method, beta, *scores) == pytest.approx(limit, rel=1e-6, abs=1e-30)


_ANY_SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8)
_ANY_BETA = st.floats(1e-3, 1e3).flatmap(lambda beta: st.sampled_from((beta, -beta)))


def _exact(method, beta, scores):
    """The defining formula in decimals: 60 digits, exponents without a practical limit."""
    decimal.getcontext().prec = 60
    beta = decimal.Decimal(beta)
    exact = [decimal.Decimal(float(score)) for score in scores]
    if method == "TEMP_AVG":
        powers = [(s ** (1 / beta), (1 - s) ** (1 / beta)) for s in exact]
        return sum(p / (p + q) for p, q in powers) / len(exact)
    if method == "GENERALIZED_AVG":
        return (sum(s**beta for s in exact) / len(exact)) ** (1 / beta)
    return sum(exact) / decimal.Decimal(len(exact)) ** beta


@given(
    scores=st.lists(st.floats(2**-20, 1 - 2**-20, width=32), min_size=1, max_size=8),
    beta=_ANY_BETA,
    method=st.sampled_from(("TEMP_AVG", "GENERALIZED_AVG", "QUASI_SUM")),
)
@settings(max_examples=200, deadline=None)
def test_scores_are_those_of_the_formula_in_exact_arithmetic(scores, beta, method):
    expected = min(float(_exact(method, beta, scores)), float(np.finfo(np.float32).max))
    assert _score(method, beta, *scores) == pytest.approx(expected, rel=2e-6, abs=1e-37)


@given(
    scores=_ANY_SCORES,
    beta=st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    method=st.sampled_from(KEYS["TEST.BBOX_VOTE.SCORING_METHOD"].choices),
)
@settings(max_examples=300, deadline=None)
def test_every_score_is_a_number_and_a_mean_lies_between_the_scores(scores, beta, method):
    found = _score(method, beta, *scores)
    assert np.isfinite(found) and found >= 0
    if method in ("ID", "AVG", "IOU_AVG", "GENERALIZED_AVG"):
        assert min(scores) * (1 - 1e-6) - 1e-37 <= found <= max(scores) * (1 + 1e-6) + 1e-37


def test_a_box_without_area_or_score_stays_as_it_is():
    boxes = np.array([[5, 5, 4, 9], [0, 0, 9, 9]], np.float32)  # the first one is 0 wide
    scores = np.array([0.5, 0.9], np.float32)
    moved, found = vote(boxes[:1], scores[:1], boxes, scores, 0.5, "AVG")
    np.testing.assert_array_equal(moved, boxes[:1])
    assert found == [0.5]
    moved, found = vote(boxes[1:], 0 * scores[1:], boxes, 0 * scores, 0.5, "TEMP_AVG")
    np.testing.assert_array_equal(moved, boxes[1:])
    assert found == [0]
