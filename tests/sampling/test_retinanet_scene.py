"""RetinaNet's pseudo-sampler from the configuration to the blobs, on a scene measured by hand.

There are two images with one object each, two levels, and two anchors in each cell. Negatives have
an IoU below 0.3. The two bins meet at 0.15.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.sampling.box_sampler import NEGATIVES
from detectron_ext.sampling.retinanet_targets import RetinanetTargets

_SIZE = 128
_LEVELS = (3, 4)
# Left, top, right and bottom edges. 8 anchors of the first image have an IoU of 0.45 and more, and
# 4 of the second.
_OBJECTS = [(9, 21, 36, 104), (60, 70, 100, 104)]
_SETTINGS = [
    "MODEL.NUM_CLASSES", "4", "FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "4",
    "RETINANET.ASPECT_RATIOS", "(1.0, 4.0)", "RETINANET.SCALES_PER_OCTAVE", "1",
    "RETINANET.ANCHOR_SCALE", "4",
    "RETINANET.NEGATIVE_OVERLAP", "0.3", "RETINANET.POSITIVE_OVERLAP", "0.45",
    "LIBRA.RETINANET_SAMPLER.NUM_BINS", "2",
    "LIBRA.RETINANET_SAMPLER.NEG_PER_POS", "1.0", "LIBRA.RETINANET_SAMPLER.MIN_NEG", "5",
]  # fmt: skip


def _blobs(mode, seed=0, *overrides):
    settings = [*_SETTINGS, "LIBRA.RETINANET_SAMPLER.MODE", mode, *overrides]
    config = configuration.load(None, settings)
    samples = [
        SimpleNamespace(
            boxes=np.float32([[left, top, right - 1, bottom - 1]]),
            classes=np.int32([2]),
            is_crowd=np.array([False]),
        )
        for left, top, right, bottom in _OBJECTS
    ]
    return RetinanetTargets(config)(samples, _SIZE, _SIZE, np.random.default_rng(seed))


def _covered(centres, side, low, high):
    """Return the length that anchors with this side and these centres share with the object."""
    return np.maximum(0, np.minimum(centres + side / 2, high) - np.maximum(centres - side / 2, low))


def _overlaps(level):
    """Return the IoU (2 images, 2 anchors, rows, columns) of a square and of a 1:4 box."""
    stride = 2**level
    centres = stride * (np.arange(_SIZE // stride) + 0.5)
    grids = []
    for left, top, right, bottom in _OBJECTS:
        for width, height in ((4 * stride, 4 * stride), (2 * stride, 8 * stride)):
            x = _covered(centres, width, left, right)
            y = _covered(centres, height, top, bottom)
            shared = np.outer(y, x)
            grids.append(shared / (width * height + (right - left) * (bottom - top) - shared))
    return np.reshape(grids, (2, 2, len(centres), len(centres)))


def _bins(level):
    """Return the bin of every anchor: 0 or 1 for negatives, -1 for the others."""
    iou = _overlaps(level)
    return np.select([iou < 0.15, iou < 0.3], [0, 1], -1)


def _count(image, number):
    return sum((_bins(level)[image] == number).sum() for level in _LEVELS)


@pytest.mark.parametrize("mode", ["none", "reweight"])
def test_labels_of_all_anchors_follow_from_their_overlaps(mode):
    blobs = _blobs(mode)
    for level in _LEVELS:
        iou = _overlaps(level)
        expected = np.select([iou < 0.3, iou >= 0.45], [0, 2], -1)
        np.testing.assert_array_equal(blobs[f"retnet_cls_labels_fpn{level}"], expected)


def test_weights_of_all_anchors_follow_from_their_bins():
    """All bins of an image have the same total weight. The sum is the number of negatives."""
    blobs = _blobs("reweight")
    weight = {
        (image, number): (_count(image, 0) + _count(image, 1)) / 2 / _count(image, number)
        for image in (0, 1)
        for number in (0, 1)
    }
    assert all(value < 1 if number == 0 else value > 4 for (_, number), value in weight.items())
    for level in _LEVELS:
        expected = np.ones(_bins(level).shape)
        for (image, number), value in weight.items():
            expected[image][_bins(level)[image] == number] = value
        np.testing.assert_allclose(blobs[f"retnet_cls_weights_fpn{level}"], expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_budget_is_drawn_evenly_from_the_bins(seed):
    """Image 1 gets 8 negatives for its 8 positives. Image 2 has 4 positives and gets MIN_NEG."""
    blobs = _blobs("select", seed)
    kept = np.zeros((2, 2), int)
    for level in _LEVELS:
        is_kept = blobs[f"retnet_cls_labels_fpn{level}"] == 0
        for number in (0, 1):
            kept[:, number] += (is_kept & (_bins(level) == number)).sum(axis=(1, 2, 3))
        assert not (is_kept & (_bins(level) == -1)).any()
    np.testing.assert_array_equal(kept, [[4, 4], [2, 3]])


@pytest.mark.parametrize(
    "mode, negatives", [("none", [1081, 143]), ("select", [6, 7]), ("reweight", [612, 612])]
)
def test_the_log_counts_the_negatives_that_are_kept_in_each_bin(mode, negatives):
    assert [_count(0, number) + _count(1, number) for number in (0, 1)] == [1081, 143]
    counts = _blobs(mode)["sampling_counts_retinanet"]
    positives = [8 + 4, 8**2 + 4**2, len(_OBJECTS), 0, len(_OBJECTS)]
    np.testing.assert_allclose(counts, [*negatives, sum(negatives), *positives], rtol=1e-6)


_SECTION = "LIBRA.RETINANET_SAMPLER."
_FLOOR = (_SECTION + "FLOOR_THRESH", "0.15", _SECTION + "NUM_BINS", "1")


@pytest.mark.parametrize(
    "overrides, bins, below",
    [
        ([*_FLOOR], [13], 0),
        ([*_FLOOR, _SECTION + "FLOOR_FRACTION", "0.5"], [7], 6),
        ([_SECTION + "NEGATIVE", "random", _SECTION + "NUM_BINS", "1"], [13], 0),
    ],
)
def test_the_configuration_chooses_how_select_draws(overrides, bins, below):
    """The bins of the log begin at the floor; 13 negatives are drawn in all."""
    counts = _blobs("select", 0, *overrides)["sampling_counts_retinanet"]
    np.testing.assert_array_equal(counts[:2], [*bins, 13])
    assert counts[1] - counts[0] == below


def test_random_draws_of_select_are_uniform():
    shares = sum(
        _blobs("select", seed, _SECTION + "NEGATIVE", "random")["sampling_counts_retinanet"][:2]
        for seed in range(30)
    )
    np.testing.assert_allclose(shares / shares.sum(), np.array([1081, 143]) / 1224, atol=0.06)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["FLOOR_THRESH", "0.3"], r"FLOOR_THRESH \(0.3\) must be less than the IoU threshold"),
        (["FLOOR_FRACTION", "0.5"], r"FLOOR_FRACTION \(0.5\) has no negatives to draw from"),
    ],
)
def test_floors_that_leave_nothing_to_draw_are_refused_by_their_own_key(overrides, message):
    key, value = overrides
    with pytest.raises(ConfigError, match="^LIBRA.RETINANET_SAMPLER." + message) as caught:
        _blobs("select", 0, _SECTION + key, value)
    assert "\n" not in str(caught.value)
    _blobs("select", 0, _SECTION + key, value, _SECTION + "NEGATIVE", "random")  # has no floor
    _blobs("none", 0, _SECTION + key, value)


@pytest.mark.usefixtures("restored_registries")
def test_a_wrong_draw_is_reported_with_the_key_of_retinanet():
    @NEGATIVES.register("too_many")
    class TooMany:
        floor_thresh = 0.0

        def __init__(self, settings, negative_threshold):
            assert settings.NUM_BINS == 2

        def __call__(self, overlaps, candidates, count, rng):
            return candidates

    with pytest.raises(ConfigError, match="^LIBRA.RETINANET_SAMPLER.NEGATIVE too_many drew "):
        _blobs("select", 0, _SECTION + "NEGATIVE", "too_many")
