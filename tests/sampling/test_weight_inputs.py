"""What the loader adds for weights of positives that depend on predictions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.geometry.anchors import AnchorGrids, pyramid_levels, retinanet_anchor_levels
from detectron_ext.geometry.boxes import decode
from detectron_ext.sampling.retinanet_targets import RetinanetTargets, own_blob_names

RULES = [("POSITIVE", "uniform"), ("BOX", "iou_balanced")]
BOXES = [
    [[10, 10, 60, 60], [100, 20, 190, 110]],
    [],
    [[30, 120, 120, 200], [0, 0, 40, 40], [150, 150, 230, 240]],
]


def _load(*overrides):
    pairs = ["MODEL.NUM_CLASSES", "4", "FPN.FPN_ON", "True", "FPN.RPN_MIN_LEVEL", "3",
             "FPN.RPN_MAX_LEVEL", "7", "FPN.COARSEST_STRIDE", "128"]  # fmt: skip
    return configuration.load(None, [*pairs, *overrides])


def _samples(crowds=()):
    """Return three images; `crowds` holds (image, object) that are crowds."""
    return [
        SimpleNamespace(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            classes=np.arange(1, len(boxes) + 1, dtype=np.int32),
            is_crowd=np.array([(image, k) in crowds for k in range(len(boxes))], bool),
        )
        for image, boxes in enumerate(BOXES)
    ]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("crowds", [(), ((0, 0), (2, 1))])
def test_objects_are_those_that_the_positives_regress_to(rule, crowds):
    config = _load(f"LIBRA.RETINANET_WEIGHTS.{rule[0]}", rule[1])
    blobs = RetinanetTargets(config)(_samples(crowds), 256, 256, np.random.default_rng(0))
    objects = [
        (image, box, 1 + k)
        for image, boxes in enumerate(BOXES)
        for k, box in enumerate(boxes)
        if (image, k) not in crowds
    ]
    grids = AnchorGrids(retinanet_anchor_levels(config))(256, 256)[1]
    seen = set()
    for level, anchors in zip(pyramid_levels(config), grids):
        rows = blobs[f"retnet_positive_objects_fpn{level}"]
        places = blobs[f"retnet_roi_fg_bbox_locs_fpn{level}"].astype(int)
        targets = blobs[f"retnet_roi_bbox_targets_fpn{level}"]
        assert rows.dtype == np.int32 and rows.shape == (len(places), 3)
        boxes = decode(anchors[places[:, 1] // 4, places[:, 2], places[:, 3]], targets)
        for (image, number, label), place, box in zip(rows, places, boxes):
            assert (image, label) == (objects[number][0], objects[number][2])
            assert place[0] == image
            np.testing.assert_allclose(box, objects[number][1], atol=0.01)
            seen.add(number)
    assert seen == set(range(len(objects)))


def test_only_rules_have_these_blobs():
    for overrides in ([], ["LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True"]):
        config = _load(*overrides)
        blobs = RetinanetTargets(config)(_samples(), 256, 256, np.random.default_rng(0))
        assert own_blob_names(config) == []
        assert not [name for name in blobs if "positive" in name or "seed" in name]


def test_the_seed_of_the_control_follows_that_of_the_minibatch():
    shuffled = ("LIBRA.RETINANET_WEIGHTS.POSITIVE", "uniform",
                "LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True")  # fmt: skip
    config = _load(*shuffled)
    made = [
        RetinanetTargets(config)(_samples(), 256, 256, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    first, again, other = (blobs["retnet_weights_seed"] for blobs in made)
    assert first.shape == (1,) and first.dtype == np.int32
    assert first == again != other
    assert set(own_blob_names(config)) < set(made[0])


def test_the_seed_is_drawn_after_the_draws_of_a_mode():
    """So the control trains on the same negatives as the rule."""
    mode = ("LIBRA.RETINANET_SAMPLER.MODE", "select", "LIBRA.RETINANET_SAMPLER.MIN_NEG", "20",
            "LIBRA.RETINANET_WEIGHTS.POSITIVE", "uniform")  # fmt: skip
    plain, shuffled = (
        RetinanetTargets(_load(*mode, "LIBRA.RETINANET_WEIGHTS.SHUFFLED", value))(
            _samples(), 256, 256, np.random.default_rng(5)
        )
        for value in ("False", "True")
    )
    for name, blob in plain.items():
        np.testing.assert_array_equal(shuffled[name], blob)
