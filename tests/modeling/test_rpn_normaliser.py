"""What the RPN's losses are divided by: LIBRA.SAMPLER.RPN_NORMALISER."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import workspace
from test_generalized_rcnn import C4, RPN_ONLY, load, training_blobs

from detectron_ext.modeling import build_model
from detectron_ext.sampling.rpn_targets import divides_by_drawn

_FEW = ["LIBRA.SAMPLER.RPN_NEG_POS_UB", "2.0", "TRAIN.IMS_PER_BATCH", "2"]


def _losses(*overrides):
    """Run a training step; return the sums of both losses over all levels, and what was drawn."""
    config = load(*RPN_ONLY, "MEMONGER", "False", *overrides)
    model = build_model(config, train=True)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    for name, value in training_blobs(config).items():
        workspace.FeedBlob(name, value)
    workspace.RunNetOnce(model.net)
    found = {"cls": 0.0, "bbox": 0.0}
    for name in model.losses:
        found[name.split("_")[2]] += float(np.ravel(workspace.FetchBlob(name))[0])
    suffixes = [name[len("loss_rpn_cls") :] for name in model.losses if "_cls" in name]
    maps = {
        kind: [workspace.FetchBlob(f"rpn_{kind}{suffix}").astype(np.float64) for suffix in suffixes]
        for kind in (
            "labels_int32", "cls_logits", "bbox_pred", "bbox_targets", "bbox_inside_weights",
        )
    }  # fmt: skip
    return found, maps, workspace.FetchBlob("rpn_cls_logits" + suffixes[0] + "_grad")


def _expected_sums(maps):
    """Return the sums of both losses over the drawn anchors, and the number of these."""
    cls, box, drawn = 0.0, 0.0, 0
    for labels, logits in zip(maps["labels_int32"], maps["cls_logits"]):
        kept = labels >= 0
        drawn += kept.sum()
        cls += (np.logaddexp(0, logits) - logits * labels)[kept].sum()
    for pred, target, inside in zip(
        maps["bbox_pred"], maps["bbox_targets"], maps["bbox_inside_weights"]
    ):
        error = abs(inside * (pred - target))
        box += np.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18).sum()
    return cls, box, drawn


@pytest.mark.parametrize("body", [[], C4], ids=["pyramid", "one map"])
def test_both_losses_are_divided_by_the_number_of_drawn_anchors(body):
    found, maps, gradient = _losses(*body, *_FEW)
    cls, box, drawn = _expected_sums(maps)
    assert 0 < drawn < 2 * 256
    assert found["cls"] == pytest.approx(cls / drawn, rel=1e-4)
    assert found["bbox"] == pytest.approx(box / drawn, rel=1e-4)
    # The gradient of a drawn anchor's logit is (p - label) / drawn.
    labels, logits = maps["labels_int32"][0], maps["cls_logits"][0]
    expected = np.where(labels >= 0, 1 / (1 + np.exp(-logits)) - labels, 0) / drawn
    np.testing.assert_allclose(gradient, expected, atol=1e-7, rtol=1e-4)


def test_the_budget_divides_the_class_loss_as_in_detectron():
    found, maps, _ = _losses(*_FEW, "LIBRA.SAMPLER.RPN_NORMALISER", "budget")
    cls, box, drawn = _expected_sums(maps)
    assert found["cls"] == pytest.approx(cls / 512, rel=1e-4)
    assert found["bbox"] > 2 * box / 512


@pytest.mark.parametrize(
    "overrides, drawn",
    [
        ([], False),
        (["LIBRA.SAMPLER.RPN_NEG_POS_UB", "5.0"], True),
        (["LIBRA.SAMPLER.RPN_NEG_POS_UB", "5.0", "LIBRA.SAMPLER.RPN_NORMALISER", "budget"], False),
        (["LIBRA.SAMPLER.RPN_NORMALISER", "drawn"], True),
    ],
)
def test_auto_divides_by_the_drawn_anchors_where_negatives_are_limited(overrides, drawn):
    assert divides_by_drawn(load(*overrides)) is drawn


def test_images_without_drawn_anchors_train_nothing():
    """The number of drawn anchors is 0, and nothing is divided by it."""
    found, maps, gradient = _losses(
        *_FEW, "TRAIN.RPN_STRADDLE_THRESH", "0", "FPN.RPN_ANCHOR_START_SIZE", "512"
    )
    assert _expected_sums(maps)[2] == 0
    assert found == {"cls": 0, "bbox": 0} and not gradient.any()
