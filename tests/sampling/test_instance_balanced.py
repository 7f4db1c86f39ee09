from __future__ import annotations

import numpy as np
import pytest
from sampling_cases import SEEDS, assert_drawn, assert_uniform

from detectron_ext.sampling.instance_balanced import sample_instance_balanced
from detectron_ext.sampling.random_sampling import sample_random


def _sample(matched, candidates, count, seed=0):
    drawn = sample_instance_balanced(matched, candidates, count, np.random.default_rng(seed))
    assert_drawn(drawn, candidates, count)
    return drawn


@pytest.mark.parametrize(
    "sizes, count, expected",
    [
        ([40, 40, 40], 30, [10, 10, 10]),
        (
            [100, 2, 100],
            42,
            [20, 2, 20],
        ),  # the part that one box lacks is shared evenly by the others
        ([100, 0, 3], 10, [7, 0, 3]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([5, 1], 99, [5, 1]),
        ([0, 0], 4, [0, 0]),  # no positives
    ],
)
def test_each_ground_truth_box_gives_the_same_number(sizes, count, expected):
    matched = np.repeat(np.arange(len(sizes)), sizes)
    drawn = _sample(matched, np.arange(len(matched)), count)
    np.testing.assert_array_equal(np.bincount(matched[drawn], minlength=len(sizes)), expected)


def test_a_remainder_goes_to_random_ground_truth_boxes():
    matched = np.repeat(np.arange(4), 10)
    firsts = np.zeros(4)
    for seed in range(300):
        given = np.bincount(matched[_sample(matched, np.arange(40), 6, seed)])
        assert sorted(given) == [1, 1, 2, 2]
        firsts += given
    assert np.abs(firsts / 300 - 1.5).max() < 0.15


def test_only_candidates_are_drawn_in_any_order():
    matched = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    drawn = _sample(matched, np.array([7, 2, 0, 4, 5]), 4)
    np.testing.assert_array_equal(np.bincount(matched[drawn]), [2, 2])


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_within_a_ground_truth_box_are_uniform(seed):
    matched = np.repeat([0, 1], [12, 5])
    rng = np.random.default_rng(seed)
    counts = np.zeros(17)
    for _ in range(10_000):
        counts[sample_instance_balanced(matched, np.arange(17), 4, rng)] += 1
    for part in np.split(counts, [12]):
        assert_uniform(part, 10_000, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_sampling_is_uniform(seed):
    candidates = np.array([3, 1, 8, 20, 5, 9, 14])
    rng = np.random.default_rng(seed)
    counts = np.zeros(21)
    for _ in range(10_000):
        drawn = sample_random(candidates, 3, rng)
        assert_drawn(drawn, candidates, 3)
        counts[drawn] += 1
    assert_uniform(counts[candidates], 10_000, 3)


@pytest.mark.parametrize("count", [0, 6, 7, 8])
def test_random_sampling_takes_all_candidates_if_they_are_few(count):
    assert_drawn(sample_random(np.arange(7), count, np.random.default_rng(0)), np.arange(7), count)
    assert len(sample_random(np.arange(0), count, np.random.default_rng(0))) == 0
