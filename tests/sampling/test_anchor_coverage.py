"""The fit of anchors and objects, compared with the targets that training makes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detectron_ext.config import load
from detectron_ext.data.image_record import ImageRecord, flip_horizontally
from detectron_ext.geometry.anchors import AnchorGrids, rpn_anchor_levels
from detectron_ext.geometry.boxes import pairwise_iou
from detectron_ext.sampling.anchor_coverage import anchor_coverage
from detectron_ext.sampling.coverage_report import (
    counts_by_size,
    coverage_summary,
    coverage_warnings,
    report_anchor_coverage,
)
from detectron_ext.sampling.retinanet_targets import RetinanetTargets
from detectron_ext.sampling.rpn_targets import RpnTargets

_RETINANET = "configs/retinanet_R-36-tiny.yaml"
_FASTER_RCNN = "configs/faster_rcnn_R-36-tiny.yaml"
_CLASSES = ("__background__", "square", "disc")


def _config(base, *overrides):
    small = ("MODEL.NUM_CLASSES", 3, "TRAIN.SCALES", (96,), "TRAIN.MAX_SIZE", 96)
    return load(base, (*small, *overrides))


def _record(*boxes, size=(96, 96), crowd=None, classes=None):
    """An image of height and width ``size`` with boxes x, y, width, height."""
    corners = np.array([(x, y, x + w - 1, y + h - 1) for x, y, w, h in boxes], dtype=np.float32)
    classes = np.array(classes or [1 + n % 2 for n in range(len(boxes))], dtype=np.int32)
    is_crowd = np.array(crowd or [False] * len(boxes), dtype=bool)
    return ImageRecord(1, "x.png", *size, corners, classes, is_crowd, False, "toy")


def _said(records, config):
    coverage = anchor_coverage(records, config)
    return coverage_summary(coverage, config), coverage_warnings(coverage, config, _CLASSES)


def _random_records(count, seed=0):
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(count):
        sides = np.exp(rng.uniform(np.log(2), np.log(90), (3, 2)))
        corners = rng.uniform(0, 96 - sides)
        records.append(_record(*np.concatenate((corners, sides), axis=1)))
    return records


def test_boxes_below_the_threshold_are_those_without_a_positive_anchor_in_training():
    config = _config(_RETINANET)
    records = _random_records(60)
    coverage = anchor_coverage(records, config)
    targets = RetinanetTargets(config)
    trained = []
    for record in records:
        for box in record.boxes:  # one at a time: no object may take the anchor of another
            image = SimpleNamespace(
                image=np.zeros((96, 96, 3)), boxes=box[None], classes=np.array([1], np.int32),
                is_crowd=np.zeros(1, bool),
            )  # fmt: skip
            blobs = targets([image], 96, 96, np.random.default_rng(0))
            trained.append(any((blobs[f"retnet_cls_labels_fpn{k}"] > 0).any() for k in range(3, 8)))
    assert 20 < np.count_nonzero(trained) < 160
    np.testing.assert_array_equal(coverage.below, ~np.array(trained))


def test_the_rpn_trains_a_box_below_its_threshold_by_its_best_anchors():
    config = _config(_FASTER_RCNN)
    records = _random_records(60, seed=1)
    coverage = anchor_coverage(records, config)
    assert 10 < np.count_nonzero(coverage.below) < 170
    targets = RpnTargets(config)
    grids = AnchorGrids(rpn_anchor_levels(config))(96, 96)[0]
    for box, overlap in zip(np.concatenate([r.boxes for r in records]), coverage.overlaps):
        image = SimpleNamespace(
            image=np.zeros((96, 96, 3)), boxes=box[None], classes=np.array([1], np.int32),
            is_crowd=np.zeros(1, bool),
        )  # fmt: skip
        blobs = targets([image], 96, 96, np.random.default_rng(0))
        labels = [blobs[f"rpn_labels_int32_wide_fpn{k}"].ravel() for k in range(3, 7)]
        positive = grids[np.concatenate(labels) == 1]
        ious = pairwise_iou(positive, box[None])
        assert len(ious) and ious.max() == pytest.approx(overlap, rel=1e-4)


@pytest.mark.parametrize(
    "boxes, advice",
    [
        # The two reports of users: 5 x 5 pixels, 80 x 4 pixels.
        (((10, 10, 5, 5), (60, 60, 5, 5)),
         "2 are smaller than the smallest anchors (median 5.0 pixels, anchors from 16): lower "
         "RETINANET.ANCHOR_SCALE from 2 to 1, or enlarge TRAIN.SCALES (96,) and TRAIN.MAX_SIZE 96 "
         "up to 3.2 times"),
        (((10, 10, 80, 4), (10, 60, 80, 4)),
         "2 are too long and narrow: add 0.05 (height / width) to RETINANET.ASPECT_RATIOS "
         "(1.0, 2.0, 0.5)"),
        (((10, 10, 80, 4), (60, 10, 4, 80)), "add 0.05 and 20 (height / width)"),
    ],
)  # fmt: skip
def test_objects_that_never_train_are_counted_with_the_key_to_set(boxes, advice):
    summary, (warning,) = _said([_record(*boxes)], _config(_RETINANET))
    assert summary.startswith(
        "anchors: the best IoU of 2 boxes after scaling is below RETINANET.NEGATIVE_OVERLAP 0.4 "
        "for 2, from there to RETINANET.POSITIVE_OVERLAP 0.5 for 0, and above for 0 (the three "
        "numbers by size after scaling: small 2/0/0)"
    )
    assert warning.startswith(
        "anchors: 2 of 2 boxes (100%) never train: no anchor reaches RETINANET.NEGATIVE_OVERLAP "
        "0.4 at any scale; "
    )
    assert advice in warning


@pytest.mark.parametrize(
    "boxes, overrides",
    [
        (((10, 10, 5, 5),), ("TRAIN.SCALES", (307,), "TRAIN.MAX_SIZE", 307)),
        (((7, 7, 10, 10),), ("RETINANET.ANCHOR_SCALE", 1)),
        (((10, 10, 80, 4),), ("RETINANET.ASPECT_RATIOS", (1.0, 2.0, 0.5, 0.05))),
        (((10, 10, 80, 4), (58, 10, 4, 80)), ("RETINANET.ASPECT_RATIOS", (1.0, 0.05, 20.0))),
    ],
)  # fmt: skip
def test_who_follows_the_advice_trains_all_objects(boxes, overrides):
    config = _config(_RETINANET, *overrides)
    assert _said([_record(*boxes)], config)[1] == []


def test_large_objects_are_told_from_small_ones():
    config = _config(_RETINANET, "FPN.RPN_MAX_LEVEL", 4, "FPN.EXTRA_CONV_LEVELS", False)
    _, (warning,) = _said([_record((0, 0, 96, 96))], config)
    assert "1 is larger than the largest anchors (median 96 pixels, anchors up to 53)" in warning
    assert "raise FPN.RPN_MAX_LEVEL 4, or lower TRAIN.SCALES (96,)" in warning


def test_the_rpn_is_warned_of_too_and_names_its_own_keys():
    config = _config(_FASTER_RCNN)
    _, (warning,) = _said([_record((10, 10, 5, 5))], config)
    assert "1 of 1 box (100%) trains the RPN by at most its best anchor" in warning
    assert "TRAIN.RPN_NEGATIVE_OVERLAP 0.3" in warning
    assert "lower FPN.RPN_ANCHOR_START_SIZE from 16 to 5" in warning
    lower = _config(_FASTER_RCNN, "FPN.RPN_ANCHOR_START_SIZE", 5)
    assert _said([_record((10, 10, 5, 5))], lower)[1] == []
    _, (warning,) = _said([_record((10, 10, 80, 4))], config)
    assert "to FPN.RPN_ASPECT_RATIOS (0.5, 1, 2)" in warning or (
        "to FPN.RPN_ASPECT_RATIOS (0.5, 1.0, 2.0)" in warning
    )


def test_an_rpn_without_a_pyramid_names_its_sizes():
    config = load(
        None,
        ("MODEL.TYPE", "generalized_rcnn", "MODEL.FASTER_RCNN", True, "MODEL.NUM_CLASSES", 3,
         "TRAIN.SCALES", (96,), "TRAIN.MAX_SIZE", 96, "TRAIN.RPN_STRADDLE_THRESH", -1),
    )  # fmt: skip
    _, (warning,) = _said([_record((10, 10, 5, 5))], config)
    assert "add 5 to RPN.SIZES (64, 128, 256, 512)" in warning


def test_anchors_that_exceed_a_small_image_do_not_fit_its_large_objects():
    size = ("FPN.RPN_ANCHOR_START_SIZE", 90)
    inside = _config(_FASTER_RCNN, *size, "TRAIN.RPN_STRADDLE_THRESH", 0)
    _, (warning,) = _said([_record((0, 0, 92, 92))], inside)
    assert "set TRAIN.RPN_STRADDLE_THRESH 0 to -1" in warning
    assert _said([_record((0, 0, 92, 92))], _config(_FASTER_RCNN, *size))[1] == []


def test_objects_narrower_than_the_grid_of_anchors_are_said():
    config = _config(_RETINANET, "RETINANET.ASPECT_RATIOS", (20.0,))
    _, (warning,) = _said([_record((62, 10, 4, 80))], config)
    assert "1 lies between the anchors, which are at least 8 pixels apart" in warning


def test_random_scales_that_shrink_objects_away_are_said():
    options = ("LIBRA.AUGMENTATION.SCALE_RANGE", (0.1, 1.0))
    boxes = _record((10, 10, 20, 20), (50, 50, 20, 20))
    summary, (warning,) = _said([boxes], _config(_RETINANET, *options))
    assert "below RETINANET.NEGATIVE_OVERLAP 0.4 for 0" in summary
    # At two of the five factors, 0.1 and 0.325, the objects have 2 and 6.5 pixels.
    assert warning.startswith("anchors: at 40% of the random scales and turns no anchor reaches")
    assert "narrow LIBRA.AUGMENTATION.SCALE_RANGE (0.1, 1)" in warning
    several = _config(_RETINANET, "TRAIN.SCALES", (20, 96))
    _, (warning,) = _said([boxes], several)
    assert "at 50% of the random scales" in warning and "narrow TRAIN.SCALES (20, 96)" in warning


def test_crops_that_show_too_little_of_an_object_are_said():
    options = ("LIBRA.AUGMENTATION.SCALE_RANGE", (2.0, 4.0), "LIBRA.AUGMENTATION.CROP", True)
    config = _config(_RETINANET, *options, "TRAIN.MAX_SIZE", 1000)
    # The large object is seen by at most a quarter; the small one is why the crops are taken.
    _, (warning,) = _said([_record((0, 0, 96, 96), (40, 40, 20, 20))], config)
    assert "1 is never shown by 30 % in a crop" in warning
    assert "LIBRA.AUGMENTATION.SCALE_RANGE (2, 4)" in warning
    # Without it no crop shows an object, and the image is trained as a whole.
    assert _said([_record((0, 0, 96, 96))], config)[1] == []


def test_turned_images_need_turned_anchors():
    ratios = ("RETINANET.ASPECT_RATIOS", (0.05,))
    record = _record((10, 10, 80, 4))
    assert _said([record], _config(_RETINANET, *ratios))[1] == []
    turned = _config(_RETINANET, *ratios, "LIBRA.AUGMENTATION.ROTATE90", True)
    _, (warning,) = _said([record], turned)
    assert "at 50% of the random scales and turns" in warning
    assert "narrow LIBRA.AUGMENTATION.ROTATE90" in warning


def test_a_class_that_never_trains_is_named_although_it_is_rare():
    fitting = [_record((10, 10, 30, 30), classes=[1]) for _ in range(40)]
    _, (warning,) = _said([*fitting, _record((10, 10, 5, 5), classes=[2])], _config(_RETINANET))
    assert warning.startswith("anchors: most boxes of class disc never train: no anchor reaches")
    assert "ANCHOR_SCALE" in warning


def test_the_scale_is_that_of_training_limit_included():
    # 960 x 96 pixels at a scale of 96 and a limit of 96: a tenth, so the square has 2 pixels.
    record = _record((10, 10, 20, 20), size=(96, 960))
    coverage = anchor_coverage([record], _config(_RETINANET))
    np.testing.assert_allclose(coverage.sides, [[1.9 + 1, 1.9 + 1]], rtol=1e-6)
    assert anchor_coverage([record], _config(_RETINANET, "TRAIN.MAX_SIZE", 960)).above.all()


def test_mirrored_images_and_crowds_are_not_counted():
    record = _record((10, 10, 5, 5), (40, 40, 30, 30), crowd=[True, False])
    coverage = anchor_coverage([record, flip_horizontally(record)], _config(_RETINANET))
    assert coverage.box.tolist() == [1] and coverage.record.tolist() == [0]
    assert counts_by_size(coverage) == {"small": (0, 0, 1), "medium": (0, 0, 0), "large": (0, 0, 0)}
    assert anchor_coverage([_record((1, 1, 5, 5), crowd=[True])], _config(_RETINANET)) is None


def test_a_large_data_set_is_thinned_out_and_that_is_said():
    config = _config(_RETINANET)
    records = [_record((10, 10, 30, 30), (50, 50, 30, 30)) for _ in range(50)]
    coverage = anchor_coverage(records, config, budget=30)
    assert len(coverage.overlaps) == 26 and set(coverage.record) == set(range(0, 50, 4))
    assert "of 26 boxes (a sample of 100) after scaling" in coverage_summary(coverage, config)


@pytest.mark.parametrize("mode", ["atss", "threshold_as_atss"])
def test_a_mode_that_assigns_does_not_use_the_thresholds_and_that_is_said(caplog, mode):
    caplog.set_level("INFO")
    config = _config(_RETINANET, "LIBRA.RETINANET_SAMPLER.MODE", mode)
    record = _record((10, 10, 2, 90))
    assert anchor_coverage([record], config) is None
    report_anchor_coverage([record], config, _CLASSES)
    (message,) = caplog.messages
    assert f"MODE {mode} decides which of them are positive" in message and "\n" not in message
    report_anchor_coverage([record], _config(_RETINANET), _CLASSES)
    assert "is below RETINANET.NEGATIVE_OVERLAP" in caplog.messages[1]


def test_fast_rcnn_has_no_anchors(caplog):
    caplog.set_level("INFO")
    config = _config(None, "MODEL.TYPE", "generalized_rcnn")
    report_anchor_coverage([_record((10, 10, 5, 5))], config, _CLASSES)
    assert not caplog.records
