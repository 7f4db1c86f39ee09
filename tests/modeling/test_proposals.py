"""Caffe2's proposal operators follow Detectron's rules; our operators merge and label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe2.python import core, workspace

from detectron_ext import config as configuration
from detectron_ext.geometry.anchors import grid_anchors, rpn_anchor_levels
from detectron_ext.geometry.boxes import clip_to_image, decode, pairwise_iou
from detectron_ext.geometry.roi_levels import distribute_rois, roi_level_names
from detectron_ext.modeling import build_model
from detectron_ext.modeling.proposal_operators import BestProposals, LabelledProposals

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "faster_rcnn_R-36-tiny.yaml")


@pytest.fixture(scope="module")
def config():
    limits = ["TEST.RPN_PRE_NMS_TOP_N", "150", "TEST.RPN_POST_NMS_TOP_N", "40"]
    return configuration.load(TINY, ["MODEL.NUM_CLASSES", "4", *limits])


def _expected_proposals(scores, deltas, level, im_info, config):
    """Detectron's rules for one image and level, box by box."""
    settings = config.TEST
    height, width, _ = im_info
    anchors = grid_anchors(level.cell, level.stride, *scores.shape[1:])
    boxes = decode(
        anchors.reshape(-1, 4), deltas.reshape(len(scores), 4, -1).transpose(0, 2, 1).reshape(-1, 4)
    )
    scores = scores.ravel()
    order = np.argsort(-scores)[: settings.RPN_PRE_NMS_TOP_N]
    boxes, scores = clip_to_image(boxes[order], height, width), scores[order]
    size = boxes[:, 2:] - boxes[:, :2] + 1
    center = boxes[:, :2] + size / 2
    usable = (size >= settings.RPN_MIN_SIZE).all(axis=1) & (center < [width, height]).all(axis=1)
    boxes, scores = boxes[usable], scores[usable]
    kept: list = []
    for index, overlaps in enumerate(pairwise_iou(boxes, boxes)):
        if not (overlaps[kept] > settings.RPN_NMS_THRESH).any():
            kept.append(index)
    kept = kept[: settings.RPN_POST_NMS_TOP_N]
    return boxes[kept], scores[kept]


def test_proposals_are_those_of_detectron(config):
    """Runs the operators of the built graph on made-up RPN outputs."""
    model = build_model(config, train=False)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    # The second image is smaller than the maps of the batch.
    im_info = np.float32([[96, 128, 1.5], [70, 90, 0.8]])
    workspace.FeedBlob("im_info", im_info)
    operators = {op.output[0]: op for op in model.net.Proto().op if op.type == "GenerateProposals"}
    random = np.random.default_rng(0)
    for level in rpn_anchor_levels(config):
        size = int(96 // level.stride), int(128 // level.stride)
        scores = random.permutation(2 * 3 * size[0] * size[1]).reshape(2, 3, *size) / 5000
        deltas = random.normal(0, 0.3, (2, 12, *size)).astype(np.float32)
        workspace.FeedBlob(f"rpn_cls_probs{level.suffix}", scores.astype(np.float32))
        workspace.FeedBlob(f"rpn_bbox_pred{level.suffix}", deltas)
        workspace.RunOperatorOnce(operators[f"rpn_rois{level.suffix}"])
        rois = workspace.FetchBlob(f"rpn_rois{level.suffix}")
        probabilities = workspace.FetchBlob(f"rpn_roi_probs{level.suffix}")
        for image in range(2):
            boxes, best = _expected_proposals(
                scores[image], deltas[image], level, im_info[image], config
            )
            mine = rois[:, 0] == image
            np.testing.assert_allclose(probabilities[mine], best, rtol=1e-6)
            np.testing.assert_allclose(rois[mine, 1:], boxes, atol=2e-4)


@pytest.mark.parametrize("threshold", ["0.0", "-1.0"])
def test_all_proposals_are_kept_without_suppression(threshold):
    settings = ["TEST.RPN_NMS_THRESH", threshold, "TEST.RPN_POST_NMS_TOP_N", "5"]
    config = configuration.load(TINY, ["MODEL.NUM_CLASSES", "4", *settings])
    model = build_model(config, train=False)
    workspace.ResetWorkspace()
    workspace.RunNetOnce(model.param_init_net)
    level = rpn_anchor_levels(config)[0]
    operators = {op.output[0]: op for op in model.net.Proto().op}
    workspace.FeedBlob("im_info", np.float32([[64, 64, 1]]))
    # The anchors of one cell, all of which overlap, and those of the next cell.
    scores = np.random.default_rng(0).uniform(size=(1, 3, 4, 4)).astype(np.float32)
    workspace.FeedBlob(f"rpn_cls_probs{level.suffix}", scores)
    workspace.FeedBlob(f"rpn_bbox_pred{level.suffix}", np.zeros((1, 12, 4, 4), np.float32))
    workspace.RunOperatorOnce(operators[f"rpn_rois{level.suffix}"])
    probabilities = workspace.FetchBlob(f"rpn_roi_probs{level.suffix}").ravel()
    np.testing.assert_array_equal(probabilities, np.sort(scores.ravel())[::-1])


def _made_up_levels(random, counts):
    """Return proposals and distinct scores of each level, best first."""
    rois, scores = [], []
    for count in counts:
        corners = random.integers(0, 100, (count, 2)).astype(np.float64)
        sizes = np.exp(random.uniform(0, 6, (count, 2)))
        # Sides of 64 and 128 pixels, the last one included, are the first of their levels.
        sizes[::3] = random.choice([63, 127], (len(sizes[::3]), 1))
        image = random.integers(0, 2, (count, 1))
        rois.append(np.hstack((image, corners, corners + sizes)).astype(np.float32))
        scores.append(np.sort(random.uniform(size=count).astype(np.float32))[::-1].copy())
    return rois, scores


@pytest.mark.parametrize("counts", [(30, 20, 9, 0), (0, 0, 0, 0), (5, 1, 2, 3)])
def test_best_proposals_are_distributed_over_the_levels(config, counts):
    model = build_model(config, train=False)
    (operator,) = [op for op in model.net.Proto().op if op.type.startswith("CollectAndDistribute")]
    rois, scores = _made_up_levels(np.random.default_rng(1), counts)
    workspace.ResetWorkspace()
    for name, value in zip(operator.input, [*rois, *scores]):
        workspace.FeedBlob(name, value)
    workspace.RunOperatorOnce(operator)
    best = np.argsort(-np.concatenate(scores), kind="stable")[:40]
    expected = np.concatenate(rois)[best]
    np.testing.assert_array_equal(workspace.FetchBlob("rois").reshape(-1, 5), expected)
    for name, value in distribute_rois(expected, config).items():
        np.testing.assert_array_equal(workspace.FetchBlob(name).reshape(value.shape), value)
    assert list(operator.output) == ["rois", *roi_level_names("rois", config)]


def _run_python(operator, inputs, outputs):
    workspace.ResetWorkspace()
    net = core.Net("python")
    for name, value in inputs.items():
        workspace.FeedBlob(name, value)
    net.Python(operator.forward)(list(inputs), outputs)
    workspace.RunNetOnce(net)
    return [workspace.FetchBlob(name) for name in outputs]


@pytest.mark.parametrize("counts", [(30, 20, 9, 0), (0, 0)])
def test_best_proposals_of_an_rpn_only_model(counts):
    rois, scores = _made_up_levels(np.random.default_rng(2), counts)
    inputs = {f"rois{i}": value for i, value in enumerate(rois)}
    inputs.update({f"scores{i}": value for i, value in enumerate(scores)})
    best_rois, best_scores = _run_python(BestProposals(25), inputs, ["rois", "scores"])
    order = np.argsort(-np.concatenate(scores), kind="stable")[:25]
    np.testing.assert_array_equal(best_rois, np.concatenate(rois)[order])
    np.testing.assert_array_equal(best_scores, np.concatenate(scores)[order])


def test_labels_depend_only_on_the_seed_and_have_their_types(config):
    rois = _made_up_levels(np.random.default_rng(3), [400])[0][0]
    truth = np.float32([[0, 10, 10, 60, 60, 2, 0], [1, 20, 20, 90, 50, 1, 0]])
    model = build_model(config, train=True)
    (operator,) = [op for op in model.net.Proto().op if op.name == "LabelledProposals"]
    names = list(operator.output)

    def label(seed):
        inputs = {"rpn_rois": rois, "gt_boxes": truth, "seed": np.int64([seed])}
        return dict(zip(names, _run_python(LabelledProposals(config, names), inputs, names)))

    first, again, other = label(2**62 + 1), label(2**62 + 1), label(2**62 + 2)
    assert all(np.array_equal(first[name], again[name]) for name in names)
    assert not np.array_equal(first["rois"], other["rois"])
    integers = {name for name in names if first[name].dtype == np.int32}
    assert integers == {"labels_int32", "rois_idx_restore_int32"}
    assert all(first[name].dtype == np.float32 for name in set(names) - integers)
    assert set(first["labels_int32"]) == {0, 1, 2}
