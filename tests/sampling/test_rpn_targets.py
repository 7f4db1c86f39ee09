from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.geometry.anchors import rpn_anchor_levels
from detectron_ext.sampling.rpn_targets import RpnTargets

_PYRAMID = ["FPN.FPN_ON", "True", "FPN.MULTILEVEL_RPN", "True", "FPN.RPN_ANCHOR_START_SIZE", "16"]
_KINDS = ("labels_int32", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


def _config(*overrides, pyramid=True):
    return configuration.load(None, [*(_PYRAMID if pyramid else []), *overrides])


def _sample(boxes, is_crowd=None, height=128, width=160):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    is_crowd = np.zeros(len(boxes), bool) if is_crowd is None else np.array(is_crowd)
    return SimpleNamespace(image=np.zeros((height, width, 3)), boxes=boxes, is_crowd=is_crowd)


def _targets(config, *samples, height=128, width=160, seed=0):
    return RpnTargets(config)(samples, height, width, np.random.default_rng(seed))


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return np.float32(0)
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return np.float32(width * height / (area[0] + area[1] - width * height))


def _all_anchors(config, height, width):
    """Return a dict of (suffix, anchor, y, x) to boxes, made cell by cell."""
    anchors = {}
    for level in rpn_anchor_levels(config):
        for index, cell in enumerate(level.cell):
            for y in range(int(np.ceil(height / level.stride))):
                for x in range(int(np.ceil(width / level.stride))):
                    shift = np.array([x, y, x, y]) * level.stride
                    anchors[level.suffix, index, y, x] = (cell + shift).astype(np.float32)
    return anchors


def _expected_labels(config, boxes, anchors, height=128, width=160):
    """Return the label of every anchor before the draw, by the rule in words."""
    margin = config.TRAIN.RPN_STRADDLE_THRESH
    overlaps = {
        place: [_iou(box, truth) for truth in boxes]
        for place, box in anchors.items()
        if margin < 0
        or (min(box[:2]) >= -margin and box[2] < width + margin and box[3] < height + margin)
    }
    best = [max(row[index] for row in overlaps.values()) for index in range(len(boxes))]
    labels = {}
    for place, row in overlaps.items():
        is_best = any(iou == most > 0 for iou, most in zip(row, best))
        if is_best or max(row) >= config.TRAIN.RPN_POSITIVE_OVERLAP:
            labels[place] = 1
        elif max(row) < config.TRAIN.RPN_NEGATIVE_OVERLAP:
            labels[place] = 0
    return overlaps, labels


def _values(config, blobs, image, kind, place):
    suffix, anchor, y, x = place
    blob = blobs[f"rpn_{kind}_wide{suffix}"][image]
    return blob[anchor, y, x] if kind == "labels_int32" else blob[4 * anchor : 4 * anchor + 4, y, x]


@pytest.mark.parametrize("margin", [0, 8, -1])
@pytest.mark.parametrize("pyramid", [True, False])
def test_labels_of_all_anchors_follow_the_rule(pyramid, margin):
    """The batch has room for every anchor, so all labels must equal those of the loops above."""
    config = _config(
        "TRAIN.RPN_BATCH_SIZE_PER_IM", "1000000", "TRAIN.RPN_STRADDLE_THRESH", str(margin),
        "RPN.SIZES", "(32, 64)", pyramid=pyramid,
    )  # fmt: skip
    boxes = np.array([[5, 7, 40, 50], [60, 30, 130, 110], [62, 28, 70, 39]], np.float32)
    blobs = _targets(config, _sample([]), _sample(boxes), height=160, width=192)
    anchors = _all_anchors(config, 160, 192)
    overlaps, labels = _expected_labels(config, boxes, anchors)
    weight = 1 / len(labels)
    assert list(labels.values()).count(1) > 3
    for place, box in anchors.items():
        label = labels.get(place, -1)
        found = {kind: _values(config, blobs, 1, kind, place) for kind in _KINDS}
        assert found["labels_int32"] == label, place
        np.testing.assert_array_equal(found["bbox_inside_weights"], float(label == 1))
        np.testing.assert_allclose(found["bbox_outside_weights"], weight if label >= 0 else 0)
        if label != 1:
            assert not found["bbox_targets"].any()
            continue
        truth = boxes[int(np.argmax(overlaps[place]))]
        size, size_truth = box[2:] - box[:2] + 1, truth[2:] - truth[:2] + 1
        shift = (truth[:2] + truth[2:] - box[:2] - box[2:]) / 2 / size
        expected = np.concatenate((shift, np.log(size_truth / size)))
        np.testing.assert_allclose(found["bbox_targets"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("margin", [0, 8])
def test_an_anchor_may_end_in_the_last_pixel_but_not_after_it(margin):
    config = _config(
        "TRAIN.RPN_BATCH_SIZE_PER_IM", "1000000", "TRAIN.RPN_STRADDLE_THRESH", str(margin)
    )
    place = ("_fpn3", 1, 6, 9)
    x, y = _all_anchors(config, 128, 160)[place][2:]
    last = {"width": int(x) - margin, "height": int(y) - margin}
    inside = {side: pixel + 1 for side, pixel in last.items()}
    sizes = [inside, {**inside, "width": last["width"]}, {**inside, "height": last["height"]}]
    blobs = _targets(config, *(_sample([], **size) for size in sizes))
    labels = [_values(config, blobs, image, "labels_int32", place) for image in range(3)]
    assert labels == [0, -1, -1]


def test_names_shapes_and_types_equal_those_of_detectron():
    blobs = _targets(_config(), _sample([[5, 7, 40, 50]]), _sample([]))
    names = {f"rpn_{kind}_wide_fpn{level}" for kind in _KINDS for level in range(2, 7)}
    assert set(blobs) == names | {"sampling_counts_rpn"}
    for level in range(2, 7):
        size = (-(-128 // 2**level), -(-160 // 2**level))
        for kind in _KINDS:
            blob = blobs[f"rpn_{kind}_wide_fpn{level}"]
            is_label = kind == "labels_int32"
            assert blob.shape == (2, 3 if is_label else 12) + size
            assert blob.dtype == (np.int32 if is_label else np.float32)
            assert blob.flags.c_contiguous
    one_map = _targets(_config(pyramid=False), _sample([[5, 7, 40, 50]]))
    assert set(one_map) == {f"rpn_{kind}_wide" for kind in _KINDS} | {"sampling_counts_rpn"}
    assert one_map["rpn_bbox_targets_wide"].shape == (1, 48, 8, 10)


def _counts(config, *samples, seed=0):
    blobs = _targets(config, *samples, seed=seed)
    labels = [blob.reshape(len(samples), -1) for name, blob in blobs.items() if "labels" in name]
    labels = np.concatenate(labels, axis=1)
    return [((row == 1).sum(), (row == 0).sum()) for row in labels]


_TRUTH = [[10, 10, 50, 50], [70, 30, 120, 100], [100, 5, 130, 25]]


def test_the_configured_number_of_anchors_is_sampled():
    many = _config("TRAIN.RPN_POSITIVE_OVERLAP", "0.3", "TRAIN.RPN_BATCH_SIZE_PER_IM", "32")
    assert _counts(many, _sample(_TRUTH), _sample([])) == [(16, 16), (0, 32)]
    few = _counts(_config("TRAIN.RPN_BATCH_SIZE_PER_IM", "64"), _sample(_TRUTH))[0]
    assert 0 < few[0] < 32 and sum(few) == 64


def test_negatives_for_each_positive_are_limited():
    config = _config("LIBRA.SAMPLER.RPN_NEG_POS_UB", "1.5")
    (positives, negatives), (none, one) = _counts(config, _sample(_TRUTH), _sample([]))
    assert positives > 2 and negatives == int(1.5 * positives)
    assert (none, one) == (0, 1)


def test_an_image_without_fitting_anchors_trains_nothing():
    config = _config("FPN.RPN_ANCHOR_START_SIZE", "512")
    blobs = _targets(config, _sample(_TRUTH))
    assert all((blob == -1).all() for name, blob in blobs.items() if "labels" in name)
    assert not any(blob.any() for name, blob in blobs.items() if "bbox" in name)


def test_the_same_generator_draws_the_same_anchors():
    one, same, other = (_targets(_config(), _sample(_TRUTH), seed=seed) for seed in (1, 1, 2))
    assert all((one[name] == same[name]).all() for name in one)
    assert not all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("key", ["LIBRA.AUGMENTATION.CROP", "LIBRA.IGNORE_CROWD_ANCHORS"])
def test_crowds_are_background_as_in_detectron_unless_a_key_ignores_them(key, ignores):
    config = _config(key, str(ignores))
    everywhere = _sample([[10, 10, 50, 50], [0, 0, 159, 127]], [False, True])
    positives, negatives = _counts(config, everywhere)[0]
    assert positives > 0 and (negatives == 0) == ignores
    off = _config(key, str(ignores), "TRAIN.CROWD_FILTER_THRESH", "-1.0")
    assert _counts(off, everywhere)[0][1] > 0


def test_the_configured_sampler_is_used_if_libra_sampler_rpn_is_true():
    """In an IoU-balanced draw there are as many negatives near the objects as far away."""
    shares = []
    balanced = ["LIBRA.SAMPLER.NEGATIVE", "iou_balanced"]
    for sampler in (balanced, [*balanced, "LIBRA.SAMPLER.RPN", "True"]):
        config = _config(*sampler, "TRAIN.RPN_BATCH_SIZE_PER_IM", "60")
        blobs = _targets(config, _sample(_TRUTH))
        anchors = _all_anchors(config, 128, 160)
        overlaps, _ = _expected_labels(config, np.array(_TRUTH, np.float32), anchors)
        drawn = [
            max(row)
            for place, row in overlaps.items()
            if _values(config, blobs, 0, "labels_int32", place) == 0
        ]
        shares.append(np.mean(np.array(drawn) >= 0.1))
    assert shares[0] < 0.5 < shares[1]


def test_sampled_anchors_are_counted_for_the_log():
    blobs = _targets(_config(), _sample(_TRUTH), _sample([]))
    counted = _counts(_config(), _sample(_TRUTH), _sample([]))
    counts = blobs["sampling_counts_rpn"]
    positives, negatives = np.sum(counted, axis=0)
    assert counts[-6:].tolist()[:2] == [negatives, positives] and counts[-3] == len(_TRUTH)
    assert counts[:3].sum() == negatives


@pytest.mark.parametrize("threshold", [0.15, 0.6])
def test_bins_end_at_the_threshold_of_negatives(threshold):
    settings = ["TRAIN.RPN_BATCH_SIZE_PER_IM", "1000000", "TRAIN.RPN_STRADDLE_THRESH", "-1"]
    config = _config(*settings, "TRAIN.RPN_NEGATIVE_OVERLAP", str(threshold))
    overlaps, labels = _expected_labels(config, _TRUTH, _all_anchors(config, 128, 160))
    parts = [3 * max(row) / threshold for place, row in overlaps.items() if labels.get(place) == 0]
    expected = np.bincount(np.int64(parts), minlength=3)
    assert expected.min() > 5
    counts = _targets(config, _sample(_TRUTH))["sampling_counts_rpn"]
    np.testing.assert_array_equal(counts[:3], expected)
