from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_cases import SEEDS, assert_drawn, assert_uniform, overlaps_in

from detectron_ext.sampling.iou_balanced import sample_iou_balanced

_UPPER = 0.5


def _sample(overlaps, count, seed=0, candidates=None, **options):
    if candidates is None:
        candidates = np.flatnonzero(overlaps < _UPPER)
    rng = np.random.default_rng(seed)
    drawn = sample_iou_balanced(overlaps, candidates, count, rng, upper=_UPPER, **options)
    assert_drawn(drawn, candidates, count)
    return drawn


def _per_bin(overlaps, drawn, num_bins=3):
    return np.histogram(overlaps[drawn], np.linspace(0, _UPPER, num_bins + 1))[0]


@settings(deadline=None)
@given(st.data())
def test_the_number_drawn_is_exact_for_any_overlaps(data):
    size = data.draw(st.integers(0, 60))
    fraction = st.floats(0, 1, width=32)
    overlaps = np.array(data.draw(st.lists(fraction, min_size=size, max_size=size)), np.float32)
    with np.errstate(all="raise"):
        _sample(
            overlaps,
            data.draw(st.integers(0, 80)),
            num_bins=data.draw(st.integers(1, 6)),
            floor_thresh=data.draw(st.sampled_from([0.0, 0.1, 0.25, 0.49])),
            floor_fraction=data.draw(fraction),
            bin_range=data.draw(st.sampled_from(["negatives", "mmdet"])),
        )


@pytest.mark.parametrize("num_bins", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 32, 383, 384, 385])
def test_bins_with_enough_boxes_give_the_same_number(count, num_bins):
    overlaps = np.random.default_rng(1).beta(1, 4, 20_000).astype(np.float32)
    overlaps[:8000] = 0
    per_bin = _per_bin(overlaps, _sample(overlaps, count, num_bins=num_bins), num_bins)
    assert np.abs(per_bin - count / num_bins).max() < 1


@pytest.mark.parametrize("count, expected", [(31, [10, 10, 11]), (32, [10, 11, 11])])
def test_a_remainder_goes_to_the_bins_with_the_highest_iou(count, expected):
    overlaps = overlaps_in((300, 0.0, 0.16), (300, 0.17, 0.33), (300, 0.34, 0.5))
    assert list(_per_bin(overlaps, _sample(overlaps, count))) == expected


def test_other_bins_replace_the_missing_boxes_of_a_small_bin():
    overlaps = overlaps_in((500, 0.0, 0.16), (300, 0.17, 0.33), (4, 0.34, 0.5))
    per_bin = _per_bin(overlaps, _sample(overlaps, 90))
    assert per_bin[2] == 4 and per_bin.sum() == 90
    assert per_bin[0] >= 30 and per_bin[1] >= 30
    # The missing part is drawn from all boxes left, so mostly from the bin that has more.
    filled = sum(_per_bin(overlaps, _sample(overlaps, 90, seed))[0] for seed in range(200)) / 200
    assert filled == pytest.approx(30 + 26 * 470 / 740, abs=0.6)


def test_empty_bins_do_not_reduce_the_number_of_samples():
    overlaps = overlaps_in((50, 0.0, 0.1), (50, 0.4, 0.5))
    assert list(_per_bin(overlaps, _sample(overlaps, 30))[1:]) == pytest.approx([0, 20], abs=10)
    overlaps = np.zeros(50, np.float32)  # no ground truth
    assert list(_per_bin(overlaps, _sample(overlaps, 30))) == [30, 0, 0]


def test_no_negatives_or_few_negatives_are_all_drawn():
    positives = np.full(9, 0.8, np.float32)
    assert len(_sample(positives, 5)) == 0
    assert len(_sample(np.zeros(0, np.float32), 5)) == 0
    overlaps = overlaps_in((3, 0.0, 0.5), (6, 0.5, 1.0))
    np.testing.assert_array_equal(_sample(overlaps, 5), [0, 1, 2])
    assert len(_sample(overlaps, 0)) == 0


def test_boxes_below_the_floor_give_their_fraction_and_what_the_bins_lack():
    overlaps = overlaps_in((400, 0.0, 0.1), (300, 0.1, 0.5))
    options = {"floor_thresh": 0.1, "num_bins": 2}
    below = overlaps < 0.1
    assert below[_sample(overlaps, 100, **options)].sum() == 0
    assert below[_sample(overlaps, 100, floor_fraction=0.25, **options)].sum() == 25
    assert below[_sample(overlaps, 500, floor_fraction=0.0, **options)].sum() == 200
    few_below = np.delete(overlaps, np.arange(395))
    drawn = _sample(few_below, 100, floor_fraction=0.25, **options)
    assert (few_below < 0.1)[drawn].sum() == 5  # all that exist; the bins give the rest


@pytest.mark.parametrize(
    "count, fraction, expected", [(10, 0.9, 9), (60, 0.9, 54), (10, 0.8, 8), (7, 0.5, 4), (7, 1, 7)]
)
def test_the_number_below_the_floor_is_rounded_to_the_nearest(count, fraction, expected):
    """1 - 0.9 and 1 - 0.8 are a little less than 0.1 and 0.2 in binary."""
    overlaps = overlaps_in((400, 0.0, 0.1), (300, 0.1, 0.5))
    drawn = _sample(overlaps, count, floor_thresh=0.1, floor_fraction=fraction)
    assert (overlaps[drawn] < 0.1).sum() == expected


def test_bin_range_mmdet_rounds_the_number_below_the_floor_as_mmdetection():
    overlaps = overlaps_in((400, 0.0, 0.1), (300, 0.1, 0.5))
    options = {"floor_thresh": 0.1, "floor_fraction": 0.9, "bin_range": "mmdet"}
    assert (overlaps[_sample(overlaps, 10, **options)] < 0.1).sum() == 10


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_within_a_bin_are_uniform(seed):
    """Bins of 12, 7 and 5 boxes; 6 drawn, 10,000 times."""
    overlaps = overlaps_in((12, 0.0, 0.16), (7, 0.17, 0.33), (5, 0.34, 0.5))
    candidates = np.arange(24)
    rng = np.random.default_rng(seed)
    counts = np.zeros(24)
    for _ in range(10_000):
        counts[sample_iou_balanced(overlaps, candidates, 6, rng, upper=_UPPER)] += 1
    for part in np.split(counts, [12, 19]):
        assert part.sum() == 20_000
        assert_uniform(part, 10_000, 2)


def test_the_draw_depends_only_on_the_generator():
    overlaps = overlaps_in((400, 0.0, 0.5))
    np.testing.assert_array_equal(_sample(overlaps, 30, seed=5), _sample(overlaps, 30, seed=5))
    assert (_sample(overlaps, 30, seed=5) != _sample(overlaps, 30, seed=6)).any()


def _mmdet_rule(overlaps, negatives, count, rng, num_bins, floor, fraction):
    """mmdetection's rule, written with sets, box by box."""

    def some(boxes, number):
        boxes = sorted(boxes)
        return set(boxes) if len(boxes) <= number else set(rng.permutation(boxes)[:number])

    negatives = set(negatives)
    if len(negatives) <= count:
        return negatives
    if floor == 0:
        easy = {box for box in negatives if overlaps[box] == 0}
    else:
        easy = {box for box in negatives if overlaps[box] < floor}
    hard = negatives - easy
    budget = int(count * (1 - fraction))
    taken = set()
    width = (overlaps.max() - floor) / num_bins
    for index in range(num_bins if num_bins > 1 and len(hard) > budget else 0):
        start, end = floor + index * width, floor + (index + 1) * width
        taken |= some({b for b in hard if start <= overlaps[b] < end}, budget // num_bins)
    taken |= some(hard - taken, budget - len(taken))
    taken |= some(easy, count - len(taken))
    return taken | some(negatives - taken, count - len(taken))


_WITH_POSITIVES = overlaps_in((30, 0, 0), (40, 0.01, 0.2), (20, 0.2, 0.5), (10, 0.5, 1.0))
_NEGATIVES_ONLY = overlaps_in((30, 0, 0), (40, 0.01, 0.2), (20, 0.2, 0.45))


@pytest.mark.parametrize("overlaps", [_WITH_POSITIVES, _NEGATIVES_ONLY], ids=["mixed", "negatives"])
@pytest.mark.parametrize(
    "count, num_bins, floor, fraction",
    [
        (24, 3, 0.0, 0.0),  # the published settings
        (25, 3, 0.0, 0.0),  # a remainder
        (24, 3, 0.0, 0.25),  # overlap 0 is below the floor
        (24, 4, 0.1, 0.3),
        (70, 3, 0.0, 0.0),  # more than the bins have: the floor gives the rest
        (80, 3, 0.0, 0.9),  # more than the floor has: the bins give the rest
        (24, 1, 0.0, 0.25),
        (95, 3, 0.0, 0.0),  # everything
    ],
)
def test_bin_range_mmdet_equals_the_rule_of_mmdetection(overlaps, count, num_bins, floor, fraction):
    """The counts per group of overlaps agree in mean and spread over 400 draws of each."""
    negatives = np.flatnonzero(overlaps < _UPPER)
    edges = [0.0, 0.005, 0.1, 0.15, 0.2, 1 / 3, 0.4, _UPPER]
    options = {"num_bins": num_bins, "floor_thresh": floor, "floor_fraction": fraction}
    rng = np.random.default_rng(3)
    ours, theirs = [], []
    for seed in range(400):
        drawn = _sample(overlaps, count, seed, **options, bin_range="mmdet")
        expected = _mmdet_rule(overlaps, negatives, count, rng, num_bins, floor, fraction)
        ours.append(np.histogram(overlaps[drawn], edges)[0])
        theirs.append(np.histogram(overlaps[sorted(expected)], edges)[0])
    error = np.sqrt((np.var(ours, axis=0) + np.var(theirs, axis=0)) / 400)
    assert (np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0)) <= 4.5 * error).all()
    np.testing.assert_allclose(np.std(ours, axis=0), np.std(theirs, axis=0), rtol=0.25)


def test_bin_range_mmdet_leaves_bins_of_positives_empty():
    """With ground-truth boxes among the proposals, the last of three bins begins at 2/3.

    It contains no negatives, so its part is drawn uniformly. The first bin is so wide that easy
    boxes fill it.
    """
    rng = np.random.default_rng(0)
    overlaps = np.r_[0.5 * rng.beta(1, 12, 20_000), rng.uniform(0.3, 0.5, 400), 1.0]
    share = _per_bin(overlaps, _sample(overlaps, 384, bin_range="mmdet"))
    assert share[0] > 220 and share[1] < 30
    np.testing.assert_array_equal(_per_bin(overlaps, _sample(overlaps, 384)), 128)
