"""The warnings of keys that a model does not use."""

from __future__ import annotations

import logging

import pytest

from detectron_ext import config
from detectron_ext.config.unused_keys import warn_of_unused_keys, warn_of_unused_test_keys

BALANCED = {"NEGATIVE": "iou_balanced", "POSITIVE": "instance_balanced"}
RETINANET = {"RETINANET_SAMPLER": {"MODE": "select"}, "RETINANET_HEAD": {"USE_GN": True}}
LOSSES = {"BALANCED_L1": {"ON": True}, "LOSS_WEIGHTS": {"BBOX": 0.5}}
KINDS = {
    "RetinaNet": {"TYPE": "retinanet"},
    "Faster R-CNN": {"TYPE": "generalized_rcnn", "FASTER_RCNN": True},
    "Fast R-CNN": {"TYPE": "generalized_rcnn"},
    "an RPN-only model": {"TYPE": "generalized_rcnn", "RPN_ONLY": True},
}


def warned(kind, libra, caplog):
    caplog.set_level(logging.WARNING)
    warn_of_unused_keys(config.load(overrides=["MODEL", KINDS[kind], "LIBRA", libra]))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "kind, libra, keys",
    [
        ("RetinaNet", {"SAMPLER": BALANCED}, "SAMPLER.NEGATIVE SAMPLER.POSITIVE"),
        ("RetinaNet", {**RETINANET, **LOSSES}, ""),
        ("Faster R-CNN", RETINANET, "RETINANET_SAMPLER.MODE RETINANET_HEAD.USE_GN"),
        ("Faster R-CNN", {**LOSSES, "SAMPLER": {**BALANCED, "RPN": True}}, ""),
        ("Fast R-CNN", {**LOSSES, "SAMPLER": {**BALANCED, "RPN": True}}, "SAMPLER.RPN"),
        ("an RPN-only model", LOSSES, "BALANCED_L1.ON LOSS_WEIGHTS.BBOX"),
        ("an RPN-only model", {"SAMPLER": {**BALANCED, "RPN": True}}, ""),
        (
            "an RPN-only model",
            {"SAMPLER": {**BALANCED, "RPN_NEG_POS_UB": 5.0}},
            "SAMPLER.NEGATIVE SAMPLER.POSITIVE",
        ),
        (
            "an RPN-only model",
            {"RETINANET_SAMPLER": {"MODE": "reweight"}, "BFP": {"ON": True}, "THREADS": 1},
            "RETINANET_SAMPLER.MODE",
        ),
    ],
)
def test_keys_without_effect_are_named_in_one_line(kind, libra, keys, caplog):
    names = ", ".join(f"LIBRA.{key}" for key in keys.split())
    assert warned(kind, libra, caplog) == ([f"without effect on {kind}: {names}"] if keys else [])


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_give_no_warning(kind, caplog):
    assert not warned(kind, {}, caplog)


@pytest.mark.parametrize(
    "kind, key, value, message",
    [
        ("RetinaNet", "TEST.SCORE_THRESH", 0.3, "SCORE_THRESH (set RETINANET.INFERENCE_TH)"),
        ("Faster R-CNN", "TEST.SCORE_THRESH", 0.3, ""),
        ("Faster R-CNN", "RETINANET.INFERENCE_TH", 0.3, "INFERENCE_TH (set TEST.SCORE_THRESH)"),
        ("Fast R-CNN", "RETINANET.INFERENCE_TH", 0.3, "INFERENCE_TH (set TEST.SCORE_THRESH)"),
        ("an RPN-only model", "TEST.SCORE_THRESH", 0.3, "RPN-only model: TEST.SCORE_THRESH"),
        ("RetinaNet", "TEST.PROPOSAL_LIMIT", 10, "without effect on RetinaNet: TEST.PROPOSAL_L"),
        ("RetinaNet", "TEST.RPN_PRE_NMS_TOP_N", 10000, ""),
        ("RetinaNet", "RETINANET.INFERENCE_TH", 0.3, ""),
        ("RetinaNet", "LIBRA.SAMPLER.NEGATIVE", "iou_balanced", ""),
    ],
)
def test_keys_of_detections_that_a_model_does_not_use_are_named(kind, key, value, message, caplog):
    caplog.set_level(logging.WARNING)
    warn_of_unused_test_keys(config.load(overrides=["MODEL", KINDS[kind], key, value]))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == bool(message)
    assert all(message in said for said in messages)
