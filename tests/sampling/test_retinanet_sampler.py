from __future__ import annotations

import numpy as np
import pytest
from sampling_cases import overlaps_in

from detectron_ext import config as configuration
from detectron_ext.sampling.box_sampler import NegativeDraw
from detectron_ext.sampling.retinanet_sampler import balancing_weights, select_negatives

_UPPER = 0.4


def _labels(overlaps):
    return np.select([overlaps < _UPPER, overlaps >= 0.5], [0, 2], -1).astype(np.int32)


_CASES = {
    "usual": overlaps_in((900, 0.0, 0.1), (60, 0.15, 0.25), (9, 0.3, 0.4), (8, 0.4, 1.0)),
    "empty_bin": overlaps_in((300, 0.0, 0.1), (20, 0.3, 0.4), (20, 0.5, 0.9)),
    "no_ground_truth": np.zeros(500, np.float32),
    "no_negatives": overlaps_in((20, 0.4, 0.9)),
    "all_positive": overlaps_in((20, 0.5, 0.9)),
    "no_positives": overlaps_in((300, 0.0, 0.5)),
    "nothing": np.zeros(0, np.float32),
}


@pytest.fixture(params=_CASES)
def case(request):
    overlaps = _CASES[request.param]
    return _labels(overlaps), overlaps


def _draw_by(negative, *overrides):
    node = configuration.load(None, overrides).LIBRA.RETINANET_SAMPLER
    return NegativeDraw(negative, node, _UPPER)


def _select(labels, overlaps, seed=0, neg_per_pos=3.0, min_neg=30, draw=None):
    rng = np.random.default_rng(seed)
    options = {"neg_per_pos": neg_per_pos, "min_neg": min_neg}
    draw = draw or _draw_by("iou_balanced")
    with np.errstate(all="raise"):
        return select_negatives(labels, overlaps, rng, draw, **options)


@pytest.mark.parametrize("neg_per_pos, min_neg", [(3.0, 30), (0.5, 0), (0.0, 0), (1e6, 0)])
def test_select_keeps_the_budget_and_changes_only_negatives(case, neg_per_pos, min_neg):
    labels, overlaps = case
    before = labels.copy()
    selected = _select(labels, overlaps, 0, neg_per_pos, min_neg)
    np.testing.assert_array_equal(labels, before)
    budget = max(min_neg, int(neg_per_pos * (labels > 0).sum()))
    assert (selected == 0).sum() == min(budget, (labels == 0).sum())
    assert selected.dtype == np.int32
    np.testing.assert_array_equal(selected[labels != 0], labels[labels != 0])
    assert np.isin(selected[labels == 0], (-1, 0)).all()


def test_select_balances_the_bins():
    overlaps = _CASES["usual"]
    selected = _select(_labels(overlaps), overlaps, min_neg=27)
    kept = np.histogram(overlaps[selected == 0], np.linspace(0, _UPPER, 4))[0]
    np.testing.assert_array_equal(kept, 9)
    assert (_select(_labels(overlaps), overlaps, seed=1, min_neg=27) != selected).any()


def test_random_draws_follow_the_numbers_of_the_bins():
    overlaps = _CASES["usual"]
    edges = np.linspace(0, _UPPER, 4)
    draw = _draw_by("random")
    drawn = [
        _select(_labels(overlaps), overlaps, seed, min_neg=27, draw=draw) for seed in range(40)
    ]
    kept = sum(np.histogram(overlaps[labels == 0], edges)[0] for labels in drawn)
    np.testing.assert_allclose(kept / kept.sum(), np.array([900, 60, 9]) / 969, atol=0.03)


def test_a_floor_gives_its_part_of_the_draw():
    """The floor is 0.1: 300 negatives below it train nothing but their third of the draw."""
    overlaps = overlaps_in((300, 0.0, 0.1), (60, 0.1, 0.2), (60, 0.2, 0.3), (60, 0.3, 0.4))
    section = "LIBRA.RETINANET_SAMPLER."
    floor = [section + "FLOOR_THRESH", "0.1", section + "FLOOR_FRACTION", "0.25"]
    selected = _select(
        _labels(overlaps), overlaps, min_neg=40, draw=_draw_by("iou_balanced", *floor)
    )
    kept = np.histogram(overlaps[selected == 0], [0, 0.1, 0.2, 0.3, 0.4])[0]
    np.testing.assert_array_equal(kept, 10)


def test_weights_balance_the_bins_and_keep_their_sum(case):
    labels, overlaps = case
    with np.errstate(all="raise"):
        weights = balancing_weights(labels, overlaps, upper=_UPPER, num_bins=3)
    assert weights.dtype == np.float32 and weights.shape == labels.shape
    assert np.isfinite(weights).all()
    np.testing.assert_array_equal(weights[labels != 0], 1)
    negatives = labels == 0
    exact = weights[negatives].astype(float)
    per_bin, _ = np.histogram(overlaps[negatives], np.linspace(0, _UPPER, 4), weights=exact)
    assert exact.sum() == pytest.approx(negatives.sum(), rel=1e-6)
    filled = per_bin[per_bin > 0]
    np.testing.assert_allclose(filled, negatives.sum() / max(1, len(filled)), rtol=1e-6)
