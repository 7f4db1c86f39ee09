"""The boxes that LIBRA's samplers select in upstream, on entries of upstream's roidb."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest


def _set(*pairs):
    from detectron.core.config import merge_cfg_from_list

    merge_cfg_from_list(["MODEL.NUM_CLASSES", 3, *pairs])


def _entry(rng):
    """Return an image of 2 objects with 40 and 4 close proposals, and 400 other proposals."""
    truth = np.array([[20, 20, 79, 79], [120, 40, 159, 99]], dtype=np.float32)
    near = np.repeat(truth, [40, 4], axis=0) + rng.uniform(-4, 4, (44, 4))
    corners = rng.uniform(0, 150, (400, 2))
    far = np.concatenate((corners, corners + rng.uniform(20, 60, (400, 2))), axis=1)
    import detectron.utils.boxes as box_utils

    far = far.astype(np.float32)
    far = far[box_utils.bbox_overlaps(far, truth).max(axis=1) < 0.5]
    boxes = np.concatenate((truth, near, far)).astype(np.float32)
    overlaps = box_utils.bbox_overlaps(boxes, truth)
    matched = overlaps.argmax(axis=1)
    best = overlaps.max(axis=1)
    classes = np.where(best > 0, matched + 1, 0)
    return {
        "boxes": boxes,
        "max_overlaps": best,
        "max_classes": classes,
        "box_to_gt_ind_map": matched,
        "bbox_targets": np.concatenate((classes[:, None], np.ones((len(boxes), 4))), axis=1),
    }


def _sample(entry):
    from detectron.roi_data import fast_rcnn

    blobs = fast_rcnn._sample_rois(entry, 1.0, 0)
    row_of = {tuple(box): row for row, box in enumerate(entry["boxes"])}
    rows = [row_of[tuple(box)] for box in blobs["rois"][:, 1:]]
    return blobs, np.array(rows)


def test_regions_follow_the_samplers(cfg):
    _set("TRAIN.BATCH_SIZE_PER_IM", 64, "LIBRA.SAMPLER.NEGATIVE", "iou_balanced",
         "LIBRA.SAMPLER.POSITIVE", "instance_balanced")  # fmt: skip
    entry = _entry(np.random.default_rng(0))
    before = entry["max_overlaps"].copy()
    blobs, rows = _sample(entry)
    positives = rows[blobs["labels_int32"] > 0]
    per_instance = np.bincount(entry["box_to_gt_ind_map"][positives])
    assert per_instance.tolist() == [
        11,
        5,
    ]  # 16 in all; the second object has 5, including its own box
    overlaps = before[rows[blobs["labels_int32"] == 0]]
    assert len(overlaps) == 48 and overlaps.max() < 0.5
    available = np.histogram(before[before < 0.5], bins=3, range=(0, 0.5))[0]
    drawn = np.histogram(overlaps, bins=3, range=(0, 0.5))[0]
    assert (drawn >= np.minimum(16, available)).all()
    assert (entry["max_overlaps"] == before).all()


def test_regions_are_those_of_this_packages_fast_rcnn(cfg):
    """The same seed draws the same regions as in this package's Fast R-CNN, thresholds included."""
    from detectron_ext.sampling.box_sampler import BoxSampler
    from detectron_ext.sampling.proposal_targets import draw_regions
    from detectron_ext.upstream.ground_truth import draw_source

    _set("TRAIN.BATCH_SIZE_PER_IM", 62, "TRAIN.FG_THRESH", 0.75, "TRAIN.BG_THRESH_HI", 0.4,
         "TRAIN.BG_THRESH_LO", 0.1, "LIBRA.SAMPLER.NEGATIVE", "iou_balanced")  # fmt: skip
    entry = _entry(np.random.default_rng(0))
    overlaps, matched = entry["max_overlaps"], entry["box_to_gt_ind_map"]
    np.random.seed(5)
    blobs, rows = _sample(entry)
    np.random.seed(5)
    sampler = BoxSampler(cfg.LIBRA.SAMPLER, 0.4)
    foreground, background = draw_regions(cfg.TRAIN, sampler, matched, overlaps, draw_source())
    is_object = blobs["labels_int32"] > 0
    assert sorted(rows[is_object]) == sorted(foreground) and len(foreground) > 0
    assert sorted(rows[~is_object]) == sorted(background) and len(background) > 0
    assert overlaps[foreground].min() >= 0.75
    assert 0.1 <= overlaps[background].min() <= overlaps[background].max() < 0.4


def test_samplers_are_made_once_and_again_when_the_settings_change(cfg, monkeypatch):
    from detectron_ext.sampling import box_sampler, retinanet_sampler

    made = []
    for registry, name in ((box_sampler.NEGATIVES, "iou_balanced"),
                           (retinanet_sampler.MODES, "select")):  # fmt: skip
        part = registry[name]
        counting = type(name, (part,), {
            "__init__": lambda self, *given, part=part, name=name: (
                made.append(name), part.__init__(self, *given))[1]
        })  # fmt: skip
        monkeypatch.setitem(registry._parts, name, counting)
    _set("TRAIN.BATCH_SIZE_PER_IM", 64, "LIBRA.SAMPLER.NEGATIVE", "iou_balanced",
         "FPN.FPN_ON", "True", "FPN.MULTILEVEL_RPN", "True", "TRAIN.MAX_SIZE", 192,
         "FPN.RPN_MIN_LEVEL", 3, "FPN.COARSEST_STRIDE", 64)  # fmt: skip
    entry = _entry(np.random.default_rng(0))
    for expected in (1, 1):
        _sample(entry)
        assert len(made) == expected
    for expected in (1, 1):
        _retinanet_blobs("select")
        assert made.count("select") == expected
    _set("LIBRA.SAMPLER.NUM_BINS", 5, "LIBRA.RETINANET_SAMPLER.NUM_BINS", 5)
    for _ in range(2):
        _sample(entry)
        _retinanet_blobs("select")
    # RetinaNet's select makes an IoU-balanced sampler, too.
    assert (made.count("iou_balanced"), made.count("select")) == (2 + 2, 2)


def test_upstream_draws_the_regions_if_libra_has_its_defaults(cfg):
    from detectron.roi_data import fast_rcnn

    from detectron_ext import upstream

    entry = _entry(np.random.default_rng(0))
    _set("TRAIN.BATCH_SIZE_PER_IM", 64)
    np.random.seed(5)
    drawn = _sample(entry)[1]
    upstream.uninstall()
    np.random.seed(5)
    assert (_sample(entry)[1] == drawn).all()
    assert fast_rcnn._sample_rois.__module__ == "detectron.roi_data.fast_rcnn"


def _rpn_blobs(boxes):
    from detectron.roi_data import data_utils, rpn

    foas = [
        data_utils.get_field_of_anchors(2.0**level, (8 * 2.0**level,), (0.5, 1, 2))
        for level in range(2, 7)
    ]
    anchors = np.concatenate([foa.field_of_anchors for foa in foas])
    return rpn._get_rpn_blobs(128, 160, foas, anchors, boxes)


def test_anchors_follow_the_samplers(cfg):
    _set("FPN.FPN_ON", "True", "FPN.MULTILEVEL_RPN", "True", "TRAIN.MAX_SIZE", 160,
         "FPN.RPN_ANCHOR_START_SIZE", 32)  # fmt: skip
    boxes = np.array([[10, 10, 60, 60], [70, 20, 130, 110]], dtype=np.float32)
    plain = _rpn_blobs(boxes)
    _set("LIBRA.SAMPLER.RPN", "True", "LIBRA.SAMPLER.RPN_NEG_POS_UB", "2.0")
    limited = _rpn_blobs(boxes)
    assert [{k: v.shape for k, v in level.items()} for level in limited] == [
        {k: v.shape for k, v in level.items()} for level in plain
    ]
    labels = [np.concatenate([level["rpn_labels_int32_wide"].ravel() for level in levels])
              for levels in (plain, limited)]  # fmt: skip
    # There are so few positives that all are sampled, so both must find the same ones.
    assert ((labels[0] == 1) == (labels[1] == 1)).all()
    positives = np.count_nonzero(labels[1] == 1)
    assert 0 < np.count_nonzero(labels[1] == 0) == 2 * positives
    targets = [np.concatenate([level["rpn_bbox_targets_wide"].ravel() for level in levels])
               for levels in (plain, limited)]  # fmt: skip
    np.testing.assert_allclose(targets[0], targets[1], atol=1e-5)


def _retinanet_blobs(mode):
    from detectron.roi_data import retinanet

    _set("LIBRA.RETINANET_SAMPLER.MODE", mode, "LIBRA.RETINANET_SAMPLER.MIN_NEG", 64)
    entry = {
        "height": 128, "width": 192,
        "gt_classes": np.array([1, 2, 1]), "is_crowd": np.array([0, 0, 1]),
        "boxes": np.array(
            [[10, 10, 60, 60], [70, 20, 130, 110], [0, 0, 30, 30]], dtype=np.float32
        ),
    }  # fmt: skip
    blobs = {name: [] for name in ["data", *retinanet.get_retinanet_blob_names()]}
    assert retinanet.add_retinanet_blobs(blobs, [1.0], [entry], 192, 128)
    return blobs


@pytest.mark.parametrize("mode", ["select", "reweight"])
def test_retinanet_targets_follow_the_sampler(cfg, mode):
    _set("FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", 3, "FPN.RPN_MAX_LEVEL", 6,
         "FPN.COARSEST_STRIDE", 64, "TRAIN.MAX_SIZE", 192)  # fmt: skip
    plain, ours = _retinanet_blobs("none"), _retinanet_blobs(mode)
    assert {"retnet_cls_weights_fpn3"} <= ours.keys() or mode == "select"
    assert (plain["im_info"] == ours["im_info"]).all()
    negatives = 0
    for level in range(3, 7):
        name = f"retnet_cls_labels_fpn{level}"
        assert plain[name].shape == ours[name].shape and ours[name].dtype == np.int32
        assert ((plain[name] > 0) == (ours[name] > 0)).all()
        negatives += np.count_nonzero(ours[name] == 0)
        for kind in ("roi_bbox_targets", "roi_fg_bbox_locs"):
            name = f"retnet_{kind}_fpn{level}"
            order = [np.lexsort(plain[f"retnet_roi_fg_bbox_locs_fpn{level}"].T),
                     np.lexsort(ours[f"retnet_roi_fg_bbox_locs_fpn{level}"].T)]  # fmt: skip
            np.testing.assert_allclose(plain[name][order[0]], ours[name][order[1]], atol=1e-5)
        if mode == "reweight":
            weights = ours[f"retnet_cls_weights_fpn{level}"]
            assert weights.shape == plain[f"retnet_cls_labels_fpn{level}"].shape
    assert ours["retnet_fg_num"] == plain["retnet_fg_num"]
    if mode == "select":
        labels = [ours[f"retnet_cls_labels_fpn{level}"] for level in range(3, 7)]
        positives = sum(np.count_nonzero(level > 0) for level in labels)
        assert negatives == max(64, 3 * positives)


def test_blobs_of_weights_by_predictions_suit_upstreams_loader(cfg):
    _set("FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", 3, "FPN.RPN_MAX_LEVEL", 6,
         "FPN.COARSEST_STRIDE", 64, "TRAIN.MAX_SIZE", 192,
         "LIBRA.RETINANET_WEIGHTS.BOX", "iou_balanced",
         "LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True")  # fmt: skip
    blobs = _retinanet_blobs("none")
    for name, blob in blobs.items():
        assert name == "data" or blob.dtype in (np.int32, np.float32), name
    assert blobs["retnet_weights_seed"].shape == (1,)
    objects = [blobs[f"retnet_positive_objects_fpn{level}"] for level in range(3, 7)]
    assert {tuple(row) for row in np.concatenate(objects)} == {(0, 0, 1), (0, 1, 2)}


def test_retinanet_targets_follow_a_mode_that_assigns(cfg):
    from detectron_ext.sampling.retinanet_targets import RetinanetTargets

    _set("FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", 3, "FPN.RPN_MAX_LEVEL", 6,
         "FPN.COARSEST_STRIDE", 64, "TRAIN.MAX_SIZE", 192)  # fmt: skip
    plain, upstreams = _retinanet_blobs("none"), _retinanet_blobs("atss")
    sample = SimpleNamespace(
        boxes=np.float32([[10, 10, 60, 60], [70, 20, 130, 110]]),
        classes=np.int32([1, 2]),
        is_crowd=np.zeros(2, bool),
    )
    ours = RetinanetTargets(cfg)([sample], 128, 192, np.random.default_rng(0))
    positives = 0
    for level in range(3, 7):
        name = f"retnet_cls_labels_fpn{level}"
        np.testing.assert_array_equal(upstreams[name], ours[name])
        positives += np.count_nonzero(ours[name] > 0)
    assert upstreams["retnet_fg_num"] == positives + 1 != plain["retnet_fg_num"]


_MANY = [[10, 10, 60, 60], [70, 20, 130, 110], [150, 90, 161, 101], [20, 90, 120, 93]]


@pytest.mark.parametrize(
    "boxes",
    [[[100, 100, 111, 111]], [[90, 20, 93, 119]], _MANY],
    ids=["small", "thin", "several"],
)
@pytest.mark.parametrize("mode", ["none", "select", "reweight"])
def test_normalisers_equal_those_of_upstream(cfg, monkeypatch, boxes, mode):
    """Losses are divided by the same number, even if the best anchors are background."""
    from detectron.roi_data import data_utils, retinanet

    from detectron_ext import config as configuration
    from detectron_ext.sampling.retinanet_targets import RetinanetTargets

    # The image has the size of upstream's grid of anchors, because upstream counts all of them.
    pairs = ["FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "7",
             "FPN.COARSEST_STRIDE", "128", "TRAIN.MAX_SIZE", "256"]  # fmt: skip
    _set(*pairs)
    # Upstream caches the grids of other tests, which have another size.
    monkeypatch.setattr(data_utils, "_threadlocal_foa", threading.local())
    boxes = np.array(boxes, dtype=np.float32)
    entry = {"height": 256, "width": 256, "boxes": boxes,
             "gt_classes": np.ones(len(boxes), np.int32),
             "is_crowd": np.zeros(len(boxes), np.int32)}  # fmt: skip
    theirs = {name: [] for name in ["data", *retinanet.get_retinanet_blob_names()]}
    assert retinanet.add_retinanet_blobs(theirs, [1.0], [entry], 256, 256)
    config = configuration.load(
        None, ["MODEL.NUM_CLASSES", "3", *pairs, "LIBRA.RETINANET_SAMPLER.MODE", mode]
    )
    sample = SimpleNamespace(
        boxes=boxes, classes=entry["gt_classes"], is_crowd=np.zeros(len(boxes), bool)
    )
    ours = RetinanetTargets(config)([sample], 256, 256, np.random.default_rng(0))
    for name in ("retnet_fg_num", "retnet_bg_num"):
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name])
