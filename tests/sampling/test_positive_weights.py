"""Weights of positives by predictions: rules, sums that are kept, the control, and the log."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from detectron_ext.errors import ConfigError
from detectron_ext.sampling.positive_weights import (
    POSITIVE_WEIGHTS,
    Positives,
    ranks_in_groups,
    weigh_boxes,
    weigh_positives,
)
from detectron_ext.sampling.weight_statistics import count_weights, summarise_weights


def positives(count=12, seed=0, **changes):
    """Return positives of 2 images with 2 objects each."""
    random = np.random.RandomState(seed)
    instance = random.randint(0, 4, count)
    made = Positives(
        iou=random.uniform(0, 1, count),
        class_loss=random.uniform(0, 3, count),
        score=random.uniform(0, 1, count),
        classes=1 + instance % 2,
        image=instance // 2,
        instance=instance,
    )
    return made._replace(**changes)


def rule(name, **keys):
    weights = SimpleNamespace(**{"ETA": 1.5, "RANK_GAMMA": 2.0, "RANK_BIAS": 0.0, **keys})
    config = SimpleNamespace(LIBRA=SimpleNamespace(RETINANET_WEIGHTS=weights))
    return POSITIVE_WEIGHTS[name](config)


def test_iou_balanced_weights_are_those_of_the_paper():
    made = positives(3, iou=np.array([0.25, 1.0, 0.0]), class_loss=np.array([2.0, 1.0, 5.0]))
    factors = rule("iou_balanced", ETA=0.5)(made)
    # u^eta is 1/2, 1 and 0: the losses add up to 8, and weighted to 2.
    np.testing.assert_allclose(weigh_positives(made, factors, per_image=False), [2, 4, 0])


def test_ranks_within_objects_become_weights():
    made = positives(
        5,
        iou=np.array([0.2, 0.9, 0.5, 0.1, 0.3]),
        instance=np.array([7, 7, 7, 2, 2]),
        class_loss=np.ones(5),
    )
    factors = rule("rank_in_object", RANK_GAMMA=1.0)(made)
    np.testing.assert_allclose(factors, [1 / 3, 1, 2 / 3, 1 / 2, 1])
    factors = rule("rank_in_object", RANK_BIAS=0.4)(made)
    np.testing.assert_allclose(factors, (0.6 * np.array([1 / 3, 1, 2 / 3, 1 / 2, 1]) + 0.4) ** 2)


def test_isr_p_ranks_first_within_objects_then_within_classes():
    made = positives(
        7,
        # Class 1 has two objects; the second best of object 0 is better than the best of object 1.
        iou=np.array([0.9, 0.8, 0.1, 0.6, 0.5, 0.7, 0.95]),
        instance=np.array([0, 0, 0, 1, 1, 2, 2]),
        classes=np.array([1, 1, 1, 1, 1, 2, 2]),
    )
    factors = rule("isr_p", RANK_GAMMA=1.0)(made)
    ranks = np.array([0, 2, 4, 1, 3, 1, 0])
    np.testing.assert_allclose(factors, (5 - ranks) / 5)  # class 1 has the most positives: 5
    assert rule("isr_p", RANK_BIAS=1.0)(made).tolist() == [1] * 7


@pytest.mark.parametrize("name", ["rank_in_object", "isr_p", "iou_balanced", "uniform"])
def test_every_rule_takes_no_positives_and_nan(name):
    assert rule(name)(positives(0)).shape == (0,)
    made = positives(iou=np.where(np.arange(12) == 5, np.nan, 0.5))
    weights = weigh_positives(made, rule(name)(made), per_image=False)
    assert np.isfinite(weights).all()


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=30),
)
def test_ranks_count_the_larger_values_of_a_group(values):
    groups, numbers = np.array(values, dtype=int).reshape(-1, 2).T
    ranks = ranks_in_groups(numbers.astype(float), groups)
    for i, rank in enumerate(ranks):
        same = groups == groups[i]
        before = (numbers > numbers[i]) | ((numbers == numbers[i]) & (np.arange(len(ranks)) < i))
        assert rank == np.count_nonzero(same & before)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(0, 40),
    seed=st.integers(0, 9999),
    per_image=st.booleans(),
    shuffled=st.booleans(),
)
def test_the_sum_of_the_losses_is_kept(count, seed, per_image, shuffled):
    made = positives(count, seed)
    rng = np.random.default_rng(seed) if shuffled else None
    factors = rule("iou_balanced")(made)
    weights = weigh_positives(made, factors, per_image=per_image, rng=rng)
    assert weights.dtype == np.float32 and weights.shape == (count,)
    groups = made.image if per_image else np.zeros(count, int)
    for group in np.unique(groups):
        rows = groups == group
        kept = (weights * made.class_loss)[rows].sum()
        assert kept == pytest.approx(made.class_loss[rows].sum(), rel=1e-5)
        if shuffled:
            # Up to their scale, they are the weights of the same group in another order.
            actual, wanted = np.sort(weights[rows]), np.sort(factors[rows])
            np.testing.assert_allclose(actual * wanted.sum(), wanted * actual.sum(), rtol=1e-4)
        else:
            scale = weights[rows] / factors[rows]
            np.testing.assert_allclose(scale, scale[0], rtol=1e-4)


def test_shuffled_weights_are_unrelated_to_the_iou_and_follow_the_seed():
    made = positives(400)
    factors = rule("iou_balanced")(made)
    runs = [
        weigh_positives(made, factors, per_image=True, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert abs(spearmanr(runs[0], made.iou)[0]) < 0.15


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"iou": np.zeros(12)},
        {"class_loss": np.zeros(12)},
        {"iou": np.full(12, np.nan)},
        {"class_loss": np.full(12, np.inf)},
        {"iou": np.eye(12)[0], "class_loss": np.r_[1e-44, np.full(11, 9.0)]},
    ],
    ids=["no overlap", "no loss", "NaN", "infinite", "beyond float32"],
)
def test_weights_that_cannot_be_scaled_are_1(changes, per_image):
    made = positives(**changes)
    weights = weigh_positives(made, rule("iou_balanced")(made), per_image=per_image)
    np.testing.assert_array_equal(weights, np.ones(12, np.float32))


def test_one_image_that_cannot_be_scaled_leaves_the_others_alone():
    made = positives()
    made = made._replace(iou=np.where(made.image == 0, 0.0, made.iou))
    weights = weigh_positives(made, rule("iou_balanced")(made), per_image=True)
    assert (weights[made.image == 0] == 1).all()
    assert (weights[made.image == 1] != 1).all()


@pytest.mark.parametrize("per_image", [False, True])
def test_weights_in_the_box_loss(per_image):
    made = positives(30)
    published = weigh_boxes(made, 1.5, per_image=per_image, mean_one=False)
    np.testing.assert_allclose(published, made.iou**1.5, rtol=1e-6)
    scaled = weigh_boxes(made, 1.5, per_image=per_image, mean_one=True)
    for image in (0, 1):
        rows = made.image == image if per_image else slice(None)
        assert scaled[rows].mean() == pytest.approx(1, rel=1e-5)
        wanted = published[rows] / published[rows].mean()
        np.testing.assert_allclose(scaled[rows], wanted, rtol=1e-5)
    for mean_one in (False, True):
        rng = np.random.default_rng(3)
        shuffled = weigh_boxes(made, 1.5, per_image=per_image, mean_one=mean_one, rng=rng)
        straight = scaled if mean_one else published
        np.testing.assert_allclose(np.sort(shuffled), np.sort(straight), rtol=1e-5)
        assert not np.allclose(shuffled, straight)


def test_weights_in_the_box_loss_without_a_usable_iou_are_1():
    for iou in (0.0, np.nan):
        made = positives(iou=np.full(12, iou))
        weights = weigh_boxes(made, 1.5, per_image=False, mean_one=True)
        np.testing.assert_array_equal(weights, np.ones(12, np.float32))
    assert weigh_boxes(positives(0), 1.5, per_image=True, mean_one=True).shape == (0,)


def test_a_rule_of_ones_own_is_checked():
    made = positives()
    with pytest.raises(ConfigError, match=r"POSITIVE: a rule must return 12 factors, given \(3,\)"):
        weigh_positives(made, np.ones(3), per_image=False)
    with pytest.raises(ConfigError, match="factors of at least 0, given -1.0"):
        weigh_positives(made, -np.ones(12), per_image=False)


def test_the_figures_of_the_log():
    made = Positives(
        iou=np.array([0.8, 0.6, 0.9, 0.2, 0.5]),
        class_loss=np.ones(5),
        score=np.array([0.9, 0.5, 0.1, 0.3, 0.3]),
        classes=np.ones(5, int),
        image=np.zeros(5, int),
        instance=np.array([0, 0, 0, 1, 1]),
    )
    counts = count_weights(made, np.float32([2, 1, 1, 0, 1]))
    figures = summarise_weights(np.float64(counts) * 2)  # two equal steps
    assert figures == pytest.approx(
        {
            "positive_iou": 0.6,
            "positive_share_above_iou75": 2 / 5,
            "weight_share_above_iou75": 3 / 5,
            # Only the first instance has three positives: IoU ranks 2 1 3, score ranks 3 2 1.
            "score_iou_correlation": spearmanr([0.8, 0.6, 0.9], [0.9, 0.5, 0.1])[0],
        },
        rel=1e-6,
    )


def test_figures_without_positives_or_differences_are_left_out():
    assert summarise_weights(count_weights(positives(0), np.ones(0, np.float32))) == {}
    made = positives(iou=np.full(12, 0.5))
    figures = summarise_weights(count_weights(made, np.ones(12, np.float32)))
    assert "score_iou_correlation" not in figures
    assert figures["weight_share_above_iou75"] == 0
