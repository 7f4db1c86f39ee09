"""Intervals of differences: simulated coverage, wrong findings and power, with a fixed seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectron_ext.evaluation.intervals import (
    LEVEL,
    POWER,
    holm,
    paired_difference,
    welch_difference,
)

_TRIALS = 4000
# Three standard errors of a share near 0.05 in so many trials.
_TOLERANCE = 3 * np.sqrt(0.05 * 0.95 / _TRIALS)


def _coverage(make, find, truth):
    """The share of simulated comparisons whose interval covers the true difference."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(_TRIALS):
        low, high = find(*make(rng)).interval
        covered += low <= truth <= high
    return covered / _TRIALS


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(count):
    """Seeds that both sides share move both scores; the candidate gains 0.02."""

    def make(rng):
        shared = rng.normal(0.4, 0.05, count)
        baseline, candidate = (shared + rng.normal(0, 0.02, count) for _ in range(2))
        return baseline, candidate + 0.02

    assert abs(_coverage(make, paired_difference, 0.02) - 0.95) < _TOLERANCE


@pytest.mark.parametrize("counts, spreads", [((5, 5), (1, 1)), ((8, 5), (1, 3)), ((4, 12), (1, 2))])
def test_welchs_interval_covers_the_truth_with_unequal_spreads(counts, spreads):
    """The pooled t interval would cover 87 % in the second case, and 99 % in the third."""

    def make(rng):
        return [
            rng.normal(0.4, 0.02 * spread, count) + gain
            for count, spread, gain in zip(counts, spreads, (0, 0.02))
        ]

    assert abs(_coverage(make, welch_difference, 0.02) - 0.95) < 2 * _TOLERANCE


def test_the_intervals_are_those_of_scipys_tests():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.4, 0.02, 6), rng.normal(0.42, 0.05, 6)
    for ours, theirs in (
        (paired_difference(first, second), stats.ttest_rel(second, first)),
        (welch_difference(first, second), stats.ttest_ind(second, first, equal_var=False)),
        (welch_difference(first[:4], second), stats.ttest_ind(second, first[:4], equal_var=False)),
    ):
        assert ours.p_value == pytest.approx(theirs.pvalue)
        assert ours.mean / ours.error == pytest.approx(theirs.statistic)
    interval = stats.t.interval(0.95, 5, (second - first).mean(), stats.sem(second - first))
    assert paired_difference(first, second).interval == pytest.approx(list(interval))


@pytest.mark.parametrize("count, num_variants", [(2, 1), (3, 1), (8, 1), (8, 5), (3, 7)])
def test_the_detectable_difference_is_found_with_the_stated_power(count, num_variants):
    rng = np.random.default_rng(11)
    error = 0.02 / np.sqrt(count)
    # Scores whose estimated deviation is the true one, 0.02.
    exact = stats.zscore(np.arange(count), ddof=1) * 0.02
    truth = paired_difference(np.zeros(count), exact).detectable(num_variants)
    assert truth > error
    values = rng.normal(truth, 0.02, (20000, count))
    statistic = np.abs(values.mean(axis=1)) / (values.std(axis=1, ddof=1) / np.sqrt(count))
    found = stats.t.sf(statistic, count - 1) * 2 < LEVEL / num_variants
    assert found.mean() == pytest.approx(POWER, abs=0.01)


def test_holms_correction_limits_any_wrong_finding():
    """Six variants of which none differs. Without the correction one in five trials finds one."""
    rng = np.random.default_rng(5)
    wrong, uncorrected = 0, 0
    for _ in range(_TRIALS):
        baseline = rng.normal(0, 1, 8)  # shared by all comparisons, as in a sweep
        found = [paired_difference(baseline, rng.normal(0, 1, 8)).p_value for _ in range(6)]
        wrong += min(holm(found)) < LEVEL
        uncorrected += min(found) < LEVEL
    assert wrong / _TRIALS < LEVEL + _TOLERANCE
    assert uncorrected / _TRIALS > 0.15


def test_holms_correction_of_known_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01], num_variants=4) == [0.04]
    assert holm([]) == []


def test_the_correction_for_shared_images_widens_the_interval():
    """Nadeau and Bengio: the variance 1/n becomes 1/n + test images / training images."""
    scores = np.array([0.40, 0.42, 0.47, 0.41]), np.array([0.44, 0.43, 0.52, 0.46])
    plain, wide = paired_difference(*scores), paired_difference(*scores, overlap=1 / 3)
    assert wide.mean == plain.mean
    assert (wide.error / plain.error) ** 2 == pytest.approx((1 / 4 + 1 / 3) / (1 / 4))


def test_equal_differences_have_no_spread():
    """0.1 + 0.2 is not 0.3: what rounding adds is no spread."""
    same = paired_difference([0.1, 0.2, 0.3], [0.3, 0.4, 0.5])
    assert same.error == 0 and same.interval == [same.mean, same.mean]
    assert same.p_value == 0 and same.detectable(3) == 0
    assert paired_difference([0.1, 0.2], [0.1, 0.2]).p_value == 1
    assert welch_difference([0.1, 0.1], [0.1, 0.1]).p_value == 1


def test_too_few_scores_have_no_interval():
    assert paired_difference([0.1], [0.2]) is None
    assert welch_difference([0.1], [0.2, 0.3]) is None
    assert welch_difference([0.1, 0.2], [0.3]) is None
