from __future__ import annotations

import numpy as np
import pytest
from sampling_cases import overlaps_in

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.sampling.box_sampler import NEGATIVES, POSITIVES, BoxSampler

_OVERLAPS = overlaps_in((2000, 0.0, 0.1), (200, 0.1, 0.5), (80, 0.5, 1.0))
_NEGATIVES, _POSITIVES = np.arange(2200), np.arange(2200, 2280)
_MATCHED = np.where(np.arange(2280) < 2270, 0, 1)


def _sampler(*settings, threshold=0.5):
    overrides = [text for pair in settings for text in (f"LIBRA.SAMPLER.{pair[0]}", pair[1])]
    return BoxSampler(configuration.load(None, overrides).LIBRA.SAMPLER, threshold)


def _draw(sampler):
    rng = np.random.default_rng(0)
    positives = sampler.positives(_MATCHED, _POSITIVES, 20, rng)
    negatives = sampler.negatives(_OVERLAPS, _NEGATIVES, 60, rng)
    return positives, negatives, sampler.counts(_OVERLAPS, _MATCHED, positives, negatives, 2)


def test_settings_choose_the_samplers():
    positives, negatives, counts = _draw(_sampler())
    assert len(positives) == 20 and len(negatives) == 60
    assert counts[0] > 50 and counts[-5] == 20
    positives, _, counts = _draw(_sampler(("POSITIVE", "instance_balanced")))
    np.testing.assert_array_equal(np.bincount(_MATCHED[positives]), [10, 10])
    assert counts[0] > 50
    _, _, counts = _draw(_sampler(("NEGATIVE", "iou_balanced")))
    np.testing.assert_array_equal(counts[:4], [20, 20, 20, 60])
    _, _, counts = _draw(_sampler(("NEGATIVE", "iou_balanced"), ("BIN_RANGE", "mmdet")))
    assert counts[0] > 30 and counts[1] < 10
    options = ("FLOOR_THRESH", "0.1"), ("FLOOR_FRACTION", "0.5"), ("NUM_BINS", "2")
    _, negatives, counts = _draw(_sampler(("NEGATIVE", "iou_balanced"), *options))
    np.testing.assert_array_equal(counts[:3], [15, 15, 60])
    assert (_OVERLAPS[negatives] < 0.1).sum() == 30


def test_a_floor_that_leaves_nothing_to_balance_is_refused():
    with pytest.raises(ConfigError, match="FLOOR_THRESH .*0.3"):
        _sampler(("NEGATIVE", "iou_balanced"), ("FLOOR_THRESH", "0.3"), threshold=0.3)
    _sampler(("FLOOR_THRESH", "0.3"), threshold=0.3)  # plain random draws have no floor


def test_a_fraction_below_a_floor_of_zero_is_refused():
    """The fraction would be drawn at random from all negatives, without any balance."""
    fraction = ("NEGATIVE", "iou_balanced"), ("FLOOR_FRACTION", "0.5")
    with pytest.raises(ConfigError, match=r"FLOOR_FRACTION \(0.5\) .*raise FLOOR_THRESH") as caught:
        _sampler(*fraction)
    assert "\n" not in str(caught.value)
    _sampler(*fraction, ("FLOOR_THRESH", "0.1"))
    _sampler(*fraction[1:])  # plain random draws have no floor
    _, negatives, _ = _draw(_sampler(*fraction, ("BIN_RANGE", "mmdet")))
    assert len(negatives) == 60


@pytest.mark.usefixtures("restored_registries")
def test_samplers_of_a_user_are_used():
    @NEGATIVES.register("first")
    class First:
        floor_thresh = 0.25

        def __init__(self, settings, negative_threshold):
            assert (settings.NUM_BINS, negative_threshold) == (3, 0.5)

        def __call__(self, overlaps, candidates, count, rng):
            return candidates[:count]

    @POSITIVES.register("last")
    def last(matched, candidates, count, rng):
        return candidates[-count:]

    positives, negatives, counts = _draw(_sampler(("NEGATIVE", "first"), ("POSITIVE", "last")))
    np.testing.assert_array_equal(positives, _POSITIVES[-20:])
    np.testing.assert_array_equal(negatives, _NEGATIVES[:60])
    # All of the first negatives lie below the floor, where the log's bins begin.
    np.testing.assert_array_equal(counts[:4], [0, 0, 0, 60])


@pytest.mark.usefixtures("restored_registries")
@pytest.mark.parametrize(
    "draw, fault",
    [
        (lambda candidates, count: candidates, "drew 80 boxes and should draw at most 20"),
        (
            lambda candidates, count: candidates[:1] + 10**6,
            "drew boxes that are not among the cand",
        ),
        (
            lambda candidates, count: candidates[:1] * 0 - 1,
            "drew boxes that are not among the cand",
        ),
        (lambda candidates, count: _NEGATIVES[:1], "drew boxes that are not among the candidates"),
        (lambda candidates, count: candidates[[0, 0]], "drew a box more than once"),
        (lambda candidates, count: candidates[:5] + 0.0, "must return a row of integers, given fl"),
        (lambda candidates, count: candidates[:4].reshape(2, 2), "must return a row of integers"),
        (lambda candidates, count: None, "must return a row of integers, given object of shape"),
    ],
)
def test_wrong_draws_of_a_sampler_are_refused(draw, fault):
    @POSITIVES.register("odd")
    def odd(matched, candidates, count, rng):
        return draw(candidates, count)

    with pytest.raises(ConfigError, match=f"^LIBRA.SAMPLER.POSITIVE odd {fault}"):
        _draw(_sampler(("POSITIVE", "odd")))


@pytest.mark.usefixtures("restored_registries")
def test_a_sampler_may_draw_fewer_or_none():
    POSITIVES.register("few")(lambda matched, candidates, count, rng: candidates[:3])
    POSITIVES.register("no")(lambda matched, candidates, count, rng: candidates[:0])
    assert len(_draw(_sampler(("POSITIVE", "few")))[0]) == 3
    assert len(_draw(_sampler(("POSITIVE", "no")))[0]) == 0


@pytest.mark.usefixtures("restored_registries")
def test_a_sampler_of_negatives_needs_a_floor():
    @NEGATIVES.register("no_floor")
    class NoFloor:
        def __init__(self, settings, negative_threshold):
            pass

    with pytest.raises(ConfigError, match="NEGATIVE no_floor must have a number floor_thresh, giv"):
        _sampler(("NEGATIVE", "no_floor"))
    with pytest.raises(ConfigError, match="LIBRA.SAMPLER.NEGATIVE: 'function' must be a class"):
        NEGATIVES.register("function")(len)
