"""Weights of negatives by their gradients: bins, running masses, weights, controls, figures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.sampling.negative_statistics import summarise_negatives
from detectron_ext.sampling.negative_weights import (
    GradientBalance,
    bin_factors,
    group_codes,
    keeping_the_total,
    negative_bins,
    updated_masses,
)
from detectron_ext.sampling.retinanet_sampler import balancing_weights
from detectron_ext.sampling.retinanet_targets import RetinanetTargets, own_blob_names

KEY = "LIBRA.RETINANET_NEGATIVES"
BALANCED = (f"{KEY}.WEIGHTS", "gradient_balanced")
CLIP = (0.5, 2.0)


def _float32(*values):
    return np.array(values, np.float32)


def _load(*overrides):
    pairs = ["MODEL.NUM_CLASSES", "4", "FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", "3",
             "FPN.RPN_MAX_LEVEL", "7", "FPN.COARSEST_STRIDE", "128"]  # fmt: skip
    return configuration.load(None, [*pairs, *overrides])


def _balance(**settings):
    named = {"TAU": 0.5, "CLIP": CLIP, "MOMENTUM": 0.9, **settings}
    negatives = SimpleNamespace(**named)
    return GradientBalance(SimpleNamespace(LIBRA=SimpleNamespace(RETINANET_NEGATIVES=negatives)))


# --- Bins


def test_bins_are_those_that_reweight_balances():
    random = np.random.RandomState(0)
    overlaps = random.uniform(0, 0.4, 500).astype(np.float32)
    overlaps[:3] = [0, np.nextafter(np.float32(0.4), np.float32(0)), 0.4]
    labels = np.where(random.rand(500) < 0.1, 2, 0).astype(np.int32)
    labels[:3] = [0, 0, -1]
    bins = negative_bins(labels, overlaps, upper=0.4, num_bins=3)
    assert bins.dtype == np.int32 and (bins[:3] == [1, 3, 0]).all()
    assert ((bins > 0) == (labels == 0)).all()
    weights = balancing_weights(labels, overlaps, upper=0.4, num_bins=3)
    for bin in (1, 2, 3):
        assert len(set(weights[bins == bin])) == 1


def test_a_negative_above_the_last_bin_is_in_it():
    bins = negative_bins(np.zeros(3, np.int32), _float32(0.1, 0.9, 1), upper=0.4, num_bins=4)
    np.testing.assert_array_equal(bins, [2, 4, 4])


def test_an_image_without_negatives_has_no_bins():
    labels = np.array([-1, 3], np.int32)
    np.testing.assert_array_equal(negative_bins(labels, _float32(0, 0.9), upper=0.4, num_bins=3), 0)
    assert negative_bins(labels[:0], _float32(), upper=0.4, num_bins=3).shape == (0,)


def test_codes_hold_the_own_bin_and_a_group_of_another_negative():
    bins = np.array([0, 1, 2, 3, 1, 1, 0, 2] * 40, np.int32)
    codes = group_codes(bins, 3, np.random.default_rng(0))
    assert codes.dtype == np.int32 and ((codes == 0) == (bins == 0)).all()
    own, group = np.divmod(codes[codes > 0] - 1, 3)
    np.testing.assert_array_equal(own + 1, bins[bins > 0])
    np.testing.assert_array_equal(np.sort(group), np.sort(own))
    assert (own != group).mean() > 0.4
    again = group_codes(bins, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(codes, again)
    assert (codes != group_codes(bins, 3, np.random.default_rng(1))).any()


# --- Running masses


def test_the_first_mass_is_taken_and_later_ones_are_averaged():
    running = updated_masses(_float32(0, 0), np.array([0.0, 0.0]), 0.9)
    np.testing.assert_array_equal(running, [0, 0])
    running = updated_masses(running, np.array([3.0, 0.0]), 0.9)
    np.testing.assert_array_equal(running, [3, 0])
    running = updated_masses(running, np.array([1.0, 5.0]), 0.75)
    np.testing.assert_array_equal(running, [2.5, 1.25])
    assert running.dtype == np.float32


def test_masses_that_are_not_finite_do_not_spoil_the_running_ones():
    running = _float32(3, 1)
    np.testing.assert_array_equal(updated_masses(running, np.array([np.nan, 1]), 0.9), running)
    result = _balance()(np.array([[np.inf], [1.0]]), running)
    np.testing.assert_array_equal(result.weights, [1, 1])
    np.testing.assert_array_equal(result.running, running)


# --- Weights


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (1.0, [3 / 4, 3 / 3, 3 / 2]),
        (-1.0, [4 / 3, 3 / 3, 2 / 3]),
        (0.5, [(4 / 3) ** -0.5, 1, (2 / 3) ** -0.5]),
        (4.0, [0.5, 1, 2]),
        (-4.0, [2, 1, 0.5]),
        (0.0, [1, 1, 1]),
    ],
)
def test_factors_are_powers_of_the_mass_over_its_mean_and_clipped(tau, expected):
    np.testing.assert_allclose(bin_factors(_float32(4, 3, 2), tau, CLIP), expected, rtol=1e-6)


def test_bins_without_a_mass_do_not_count_in_the_mean():
    np.testing.assert_allclose(bin_factors(_float32(4, 0, 2), 1.0, CLIP), [0.75, 1, 1.5])
    np.testing.assert_array_equal(bin_factors(_float32(0, 0), 1.0, CLIP), [1, 1])
    np.testing.assert_array_equal(bin_factors(_float32(7), 1.0, CLIP), [1])
    extreme = bin_factors(_float32(1e30, 1e-30), 10.0, CLIP)
    np.testing.assert_array_equal(extreme, [0.5, 2])


masses = arrays.arrays(
    np.float64, st.integers(1, 6), elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
)


@given(masses, masses, st.floats(-10, 10))
def test_the_gradient_of_all_negatives_keeps_its_sum(step, running, tau):
    size = min(len(step), len(running))
    step, running = step[:size], running[:size].astype(np.float32)
    result = _balance(TAU=tau)(step[:, np.newaxis], running)
    assert (result.weights > 0).all() and result.weights.dtype == np.float32
    np.testing.assert_allclose((result.weights * step).sum(), step.sum(), rtol=1e-5)
    # Clipping is before scaling, by a factor from 1 / 2 to 2.
    assert result.weights.min() >= 0.249 and result.weights.max() <= 4.001
    assert result.weights.max() / result.weights.min() < 4.001


@given(masses, masses)
def test_tau_0_gives_weights_of_exactly_1(step, running):
    size = min(len(step), len(running))
    result = _balance(TAU=0.0)(step[:size, np.newaxis], running[:size].astype(np.float32))
    np.testing.assert_array_equal(result.weights, np.ones(size, np.float32))


def test_a_step_without_gradient_has_weights_of_1():
    np.testing.assert_array_equal(keeping_the_total(np.array([0.5, 2]), np.zeros(2)), [1, 1])


def test_groups_of_other_negatives_keep_the_sum_and_get_the_weights_of_the_bins():
    random = np.random.RandomState(0)
    pairs = random.uniform(0, 1, (3, 3)) * [[10], [1], [0.1]]
    result = _balance(MOMENTUM=0.0)(pairs, np.zeros(3, np.float32))
    np.testing.assert_allclose((pairs * result.weights).sum(), pairs.sum(), rtol=1e-6)
    factors = bin_factors(pairs.sum(axis=1).astype(np.float32), 0.5, CLIP)
    np.testing.assert_allclose(result.weights / result.weights[0], factors / factors[0], rtol=1e-6)
    np.testing.assert_allclose(result.running, pairs.sum(axis=1), rtol=1e-6)
    before, after, weights = result.figures[:3], result.figures[3:6], result.figures[6:9]
    np.testing.assert_allclose(before, pairs.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(after, pairs @ result.weights, rtol=1e-6)
    np.testing.assert_array_equal(weights, result.weights)


def test_bins_with_a_mass_exchange_their_weights():
    step, running = np.array([[6.0], [0.0], [1.0], [2.0]]), np.zeros(4, np.float32)
    plain = bin_factors(step[:, 0].astype(np.float32), 0.5, CLIP)
    seen = set()
    for seed in range(40):
        result = _balance()(step, running, np.random.default_rng(seed))
        np.testing.assert_allclose((result.weights * step[:, 0]).sum(), 9, rtol=1e-6)
        relative = result.weights / result.weights[1]  # its factor is 1, and it stays there
        np.testing.assert_allclose(np.sort(relative), np.sort(plain), rtol=1e-5)
        seen.add(tuple(np.round(relative, 3)))
        again = _balance()(step, running, np.random.default_rng(seed))
        np.testing.assert_array_equal(result.weights, again.weights)
    assert len(seen) == 6


# --- The training log


def test_the_log_has_shares_before_and_after_and_mean_weights():
    balance = _balance(TAU=1.0, MOMENTUM=0.0)
    steps = [np.array([[6.0], [2.0]]), np.array([[2.0], [2.0]])]
    figures = sum(balance(step, np.zeros(2, np.float32)).figures for step in steps)
    summary = summarise_negatives(figures)
    assert summary["negative_gradient_share_bin0"] == pytest.approx(8 / 12)
    # In the first step the factors 2/3 and 2 make both masses 4.
    assert summary["negative_weighted_share_bin0"] == pytest.approx(6 / 12)
    assert summary["negative_weight_bin0"] == pytest.approx((2 / 3 + 1) / 2)
    assert summary["negative_weight_bin1"] == pytest.approx((2 + 1) / 2)
    assert len(summary) == 6


def test_without_a_gradient_the_log_has_no_shares():
    summary = summarise_negatives(_balance()(np.zeros((3, 1)), np.zeros(3, np.float32)).figures)
    assert summary == {f"negative_weight_bin{bin}": 1.0 for bin in range(3)}


# --- What the loader makes


BOXES = [
    [[10, 10, 60, 60], [100, 20, 190, 110]],
    [],
    [[30, 120, 120, 200], [0, 0, 40, 40], [150, 150, 230, 240]],
]


def _targets(*overrides, seed=0):
    samples = [
        SimpleNamespace(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            classes=np.arange(1, len(boxes) + 1, dtype=np.int32),
            is_crowd=np.zeros(len(boxes), bool),
        )
        for boxes in BOXES
    ]
    config = _load(*overrides)
    return RetinanetTargets(config)(samples, 256, 256, np.random.default_rng(seed))


@pytest.mark.parametrize("mode", ["none", "select", "atss"])
def test_the_loader_tells_the_bin_of_every_negative(mode):
    mode = ("LIBRA.RETINANET_SAMPLER.MODE", mode, "LIBRA.RETINANET_SAMPLER.NUM_BINS", "4")
    blobs = _targets(*BALANCED, *mode)
    counts = np.zeros(4)
    for level in range(3, 8):
        labels = blobs[f"retnet_cls_labels_fpn{level}"]
        bins = blobs[f"retnet_negative_bins_fpn{level}"]
        assert bins.dtype == np.int32 and bins.shape == labels.shape
        assert ((bins > 0) == (labels == 0)).all()
        counts += np.bincount(bins.ravel(), minlength=5)[1:]
        assert (bins[1][labels[1] == 0] == 1).all()  # no object, so an IoU of 0
    np.testing.assert_array_equal(blobs["sampling_counts_retinanet"][:4], counts)
    assert set(own_blob_names(_load(*BALANCED, *mode))) < set(blobs)


def test_only_this_rule_has_these_blobs():
    for overrides in ([], [f"{KEY}.SHUFFLED", "bins"], [f"{KEY}.SHUFFLED", "negatives"]):
        assert own_blob_names(_load(*overrides)) == []
        assert not [name for name in _targets(*overrides) if "negative" in name]


@pytest.mark.parametrize("shuffled", ["negatives", "bins"])
def test_a_control_trains_on_the_same_anchors_and_follows_the_seed(shuffled):
    mode = ("LIBRA.RETINANET_SAMPLER.MODE", "select", "LIBRA.RETINANET_SAMPLER.MIN_NEG", "20",
            "LIBRA.RETINANET_WEIGHTS.POSITIVE", "uniform",
            "LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True")  # fmt: skip
    control = (*BALANCED, *mode, f"{KEY}.SHUFFLED", shuffled)
    plain, first, again = _targets(*BALANCED, *mode), _targets(*control), _targets(*control)
    other = _targets(*control, seed=1)
    changed = 0
    for name, blob in plain.items():
        if "negative" not in name:
            np.testing.assert_array_equal(first[name], blob)
        elif shuffled == "negatives":
            own = (first[name] + 2) // 3  # codes 1 to 9 are bins 1 to 3
            np.testing.assert_array_equal(own, blob)
            changed += np.count_nonzero((first[name] - 1) % 3 != (blob - 1) % 3)
        else:
            np.testing.assert_array_equal(first[name], blob)
    assert (changed > 0) == (shuffled == "negatives")
    assert set(own_blob_names(_load(*control))) < set(first)
    for name, blob in first.items():
        np.testing.assert_array_equal(again[name], blob)
    names = ["retnet_negatives_seed"] if shuffled == "bins" else ["retnet_negative_bins_fpn3"]
    assert all((first[name] != other[name]).any() for name in names)


def test_too_many_bins_to_exchange_are_refused():
    keys = (*BALANCED, "LIBRA.RETINANET_SAMPLER.NUM_BINS")
    control = (f"{KEY}.SHUFFLED", "negatives")
    RetinanetTargets(_load(*keys, "64", *control))
    RetinanetTargets(_load(*keys, "1000"))
    with pytest.raises(ConfigError, match="NUM_BINS 65 is too large .* at most 64$") as caught:
        RetinanetTargets(_load(*keys, "65", *control))
    assert "\n" not in str(caught.value)
