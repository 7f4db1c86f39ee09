from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.sampling.minibatch_targets import minibatch_targets
from detectron_ext.sampling.proposal_targets import ProposalTargets, proposal_blob_names
from detectron_ext.sampling.retinanet_targets import RetinanetTargets

_BASE = ["MODEL.NUM_CLASSES", "4", "FPN.FPN_ON", "True", "FPN.MULTILEVEL_RPN", "True"]
_BASE += ["FPN.MULTILEVEL_ROIS", "True", "MODEL.TYPE", "generalized_rcnn"]
_KINDS = ("labels_int32", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")
_RPN = {f"rpn_{kind}_wide_fpn{level}" for kind in _KINDS for level in range(2, 7)}
_RPN |= {"sampling_counts_rpn"}


def _sample(boxes, classes, is_crowd, proposals=()):
    return SimpleNamespace(
        image=np.zeros((128, 160, 3)),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        is_crowd=np.array(is_crowd, bool),
        proposals=np.array(proposals, np.float32).reshape(-1, 4),
    )


_SAMPLES = [
    _sample([], [], []),
    _sample([[8, 8, 71, 71], [90, 10, 150, 90]], [3, 1], [False, True], [[8, 8, 71, 60]]),
]
_GT = np.array([[1, 8, 8, 71, 71, 3, 0], [1, 90, 10, 150, 90, 1, 1]], np.float32)


def _blobs(*overrides, seed=0):
    config = configuration.load(None, [*_BASE, *overrides])
    return config, minibatch_targets(config)(_SAMPLES, 128, 160, np.random.default_rng(seed))


def test_faster_rcnn_gets_the_ground_truth_and_a_seed():
    _, blobs = _blobs("MODEL.FASTER_RCNN", "True")
    assert set(blobs) == _RPN | {"gt_boxes", "sampling_seed"}
    np.testing.assert_array_equal(blobs["gt_boxes"], _GT)
    assert blobs["gt_boxes"].dtype == np.float32
    seed = blobs["sampling_seed"]
    assert seed.shape == (1,) and seed.dtype == np.int64 and seed[0] >= 0
    assert _blobs("MODEL.FASTER_RCNN", "True")[1]["sampling_seed"] == seed
    assert _blobs("MODEL.FASTER_RCNN", "True", seed=1)[1]["sampling_seed"] != seed


def test_an_rpn_only_model_gets_only_its_targets():
    assert set(_blobs("MODEL.RPN_ONLY", "True")[1]) == _RPN


def test_fast_rcnn_gets_sampled_proposals():
    config, blobs = _blobs()
    assert list(blobs) == proposal_blob_names(config)
    rois = np.array([[1, 8, 8, 71, 60]], np.float32)
    expected = ProposalTargets(config)(rois, _GT, 0)
    np.testing.assert_array_equal(np.sort(blobs["rois"], axis=0), np.sort(expected["rois"], axis=0))
    assert blobs["labels_int32"].tolist() == [3, 3]


@pytest.mark.parametrize("kind", [["MODEL.FASTER_RCNN", "True"], ["MODEL.RPN_ONLY", "True"], []])
def test_a_minibatch_may_lack_objects_and_proposals(kind):
    config = configuration.load(None, [*_BASE, *kind])
    empty = [_SAMPLES[0], _SAMPLES[0]]
    blobs = minibatch_targets(config)(empty, 128, 160, np.random.default_rng(0))
    if "gt_boxes" in blobs:
        assert blobs["gt_boxes"].shape == (0, 7) and blobs["gt_boxes"].dtype == np.float32
    if not kind:
        assert len(blobs["rois"]) == 1


def test_retinanet_gets_its_targets():
    config, blobs = _blobs("MODEL.TYPE", "retinanet", "RETINANET.RETINANET_ON", "True")
    expected = RetinanetTargets(config)(_SAMPLES, 128, 160, np.random.default_rng(0))
    assert set(blobs) == set(expected)
    for name, blob in expected.items():
        np.testing.assert_array_equal(blobs[name], blob)
