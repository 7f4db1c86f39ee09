"""Weights of positives that depend on predictions, in a training net."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from caffe2.python import workspace

from detectron_ext.engine.train import train
from detectron_ext.engine.training_data import TrainingMinibatches, open_loader
from detectron_ext.errors import UserError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.retinanet import num_anchors
from detectron_ext.ops import library, reference

POSITIVE = "LIBRA.RETINANET_WEIGHTS.POSITIVE"
IOU_BALANCED = (POSITIVE, "iou_balanced")
LEVELS = range(3, 8)


def _read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def _ran(config, seed=3):
    """Run the training net once, with random heads; return a function that fetches a blob."""
    workspace.ResetWorkspace()
    model = build_model(config, train=True)
    workspace.RunNetOnce(model.param_init_net)
    random = np.random.RandomState(seed)
    for name in ("retnet_cls_pred_fpn3_w", "retnet_bbox_pred_fpn3_w"):
        shape = workspace.FetchBlob(name).shape
        workspace.FeedBlob(name, random.normal(0, 0.3, shape).astype(np.float32))
    with open_loader(TrainingMinibatches(config), config, 1, 0) as loader:
        (blobs,) = next(loader)
    for name, value in blobs.items():
        workspace.FeedBlob(name, value)
    workspace.FeedBlob("lr", np.ones(1, np.float32))  # updates replace gradients by steps
    workspace.CreateNet(model.net, overwrite=True)
    workspace.RunNet(model.net.Proto().name)
    return workspace.FetchBlob


def _expected_weights(fetch, config, eta):
    """Return the maps of weights by a definition of its own: over maps, not over rows."""
    classes = config.MODEL.NUM_CLASSES - 1
    total, weighted, powers = 0.0, 0.0, {}
    for level in LEVELS:
        labels = fetch(f"retnet_cls_labels_fpn{level}")
        quality = np.zeros(labels.shape)
        places = fetch(f"retnet_roi_fg_bbox_locs_fpn{level}").astype(int)
        at = (places[:, 0], places[:, 1] // 4, places[:, 2], places[:, 3])
        quality[at] = reference.select_box_iou(
            fetch(f"retnet_bbox_pred_fpn{level}"),
            fetch(f"retnet_roi_bbox_targets_fpn{level}"),
            places,
        )
        powers[level] = quality**eta
        for counted in (np.ones(labels.shape), powers[level]):
            loss = reference.weighted_sigmoid_focal_loss(
                fetch(f"retnet_cls_pred_fpn{level}"), np.where(labels > 0, labels, -1), 1.0,
                counted, gamma=config.RETINANET.LOSS_GAMMA, alpha=config.RETINANET.LOSS_ALPHA,
                num_classes=classes,
            )  # fmt: skip
            if counted is powers[level]:
                weighted += loss
            else:
                total += loss
    return {
        level: np.where(
            fetch(f"retnet_cls_labels_fpn{level}") > 0, powers[level] * total / weighted, 1.0
        )
        for level in LEVELS
    }


@pytest.mark.parametrize("native", [True, False])
def test_weights_in_the_net_equal_their_definition(tiny_config, monkeypatch, native):
    if not native:
        monkeypatch.setattr(library, "has_native", lambda operator: False)
    config = tiny_config(*IOU_BALANCED, "LIBRA.RETINANET_WEIGHTS.ETA", "2.5")
    fetch = _ran(config)
    expected = _expected_weights(fetch, config, 2.5)
    levels_without = 0
    for level in LEVELS:
        weights = fetch(f"retnet_anchor_weights_fpn{level}")
        np.testing.assert_allclose(weights, expected[level], rtol=1e-4)
        levels_without += len(fetch(f"retnet_positive_iou_fpn{level}")) == 0
        loss = reference.weighted_sigmoid_focal_loss(
            fetch(f"retnet_cls_pred_fpn{level}"), fetch(f"retnet_cls_labels_fpn{level}"),
            fetch("retnet_fg_num"), weights, gamma=config.RETINANET.LOSS_GAMMA,
            alpha=config.RETINANET.LOSS_ALPHA, num_classes=config.MODEL.NUM_CLASSES - 1,
        )  # fmt: skip
        np.testing.assert_allclose(fetch(f"fl_fpn{level}"), loss, rtol=1e-4)
    assert 0 < levels_without < 5
    spread = np.concatenate([fetch(f"retnet_positive_weights_fpn{level}") for level in LEVELS])
    assert spread.max() > 1.5 > 0.5 > spread.min()


def _gradients(fetch):
    names = ["retnet_cls_pred_fpn3_w_grad", "retnet_bbox_pred_fpn3_w_grad"]
    return [fetch(name) for name in names]


def test_no_gradient_flows_through_the_weights(tiny_config):
    """The gradient of the box head is that of the box loss: the weights do not change it."""
    plain = _gradients(_ran(tiny_config()))
    weighted = _gradients(_ran(tiny_config(*IOU_BALANCED)))
    np.testing.assert_array_equal(plain[1], weighted[1])
    assert not np.allclose(plain[0], weighted[0], rtol=1e-3)


def test_uniform_weights_change_nothing_but_the_log(tiny_config):
    plain = _gradients(_ran(tiny_config()))
    for actual, wanted in zip(_gradients(_ran(tiny_config(POSITIVE, "uniform"))), plain):
        np.testing.assert_array_equal(actual, wanted)


def test_weights_of_a_mode_are_multiplied(tiny_config):
    mode = ("LIBRA.RETINANET_SAMPLER.MODE", "reweight")
    alone, both = _ran(tiny_config(*IOU_BALANCED)), None
    rule = {level: alone(f"retnet_anchor_weights_fpn{level}") for level in LEVELS}
    both = _ran(tiny_config(*IOU_BALANCED, *mode))
    for level in LEVELS:
        static = both(f"retnet_cls_weights_fpn{level}")
        actual = both(f"retnet_anchor_weights_fpn{level}")
        np.testing.assert_allclose(actual, static * rule[level], rtol=1e-6)
        assert (static != 1).any()


@pytest.mark.parametrize("balanced", ["False", "True"])
@pytest.mark.parametrize("mean_one", ["False", "True"])
def test_the_box_loss_takes_its_weights(tiny_config, balanced, mean_one):
    config = tiny_config("LIBRA.RETINANET_WEIGHTS.BOX", "iou_balanced",
                         "LIBRA.RETINANET_WEIGHTS.LAMBDA", "2.0",
                         "LIBRA.RETINANET_WEIGHTS.BOX_MEAN_ONE", mean_one,
                         "LIBRA.BALANCED_L1.ON", balanced)  # fmt: skip
    fetch = _ran(config)
    rows = {level: fetch(f"retnet_box_weights_fpn{level}") for level in LEVELS}
    ious = np.concatenate([fetch(f"retnet_positive_iou_fpn{level}") for level in LEVELS])
    scale = 1 / np.mean(np.float64(ious) ** 2) if mean_one == "True" else 1.0
    np.testing.assert_allclose(np.concatenate(list(rows.values())), scale * ious**2, rtol=1e-4)
    loss = reference.weighted_select_smooth_l1_loss
    if balanced == "True":
        loss = reference.weighted_select_balanced_l1_loss
    for level in LEVELS:
        wanted = loss(
            fetch(f"retnet_bbox_pred_fpn{level}"), fetch(f"retnet_roi_bbox_targets_fpn{level}"),
            fetch(f"retnet_roi_fg_bbox_locs_fpn{level}"), fetch("retnet_fg_num"), rows[level],
            beta=config.RETINANET.BBOX_REG_BETA, scale=config.RETINANET.BBOX_REG_WEIGHT,
        )  # fmt: skip
        np.testing.assert_allclose(fetch(f"retnet_loss_bbox_fpn{level}"), wanted, rtol=1e-4)
    assert not workspace.HasBlob("retnet_positive_weights_fpn3")


def test_class_specific_boxes_have_their_own_iou(tiny_config):
    config = tiny_config(*IOU_BALANCED, "RETINANET.CLASS_SPECIFIC_BBOX", "True")
    fetch = _ran(config)
    for level in LEVELS:
        places = fetch(f"retnet_roi_fg_bbox_locs_fpn{level}").astype(int)
        classes = config.MODEL.NUM_CLASSES - 1
        anchor = places[:, 1] // (4 * classes)
        assert anchor.max(initial=0) < num_anchors(config)
        at = (places[:, 0], anchor, places[:, 2], places[:, 3])
        labels = fetch(f"retnet_cls_labels_fpn{level}")
        assert (labels[at] == places[:, 1] // 4 % classes + 1).all()
        rows = fetch(f"retnet_positive_weights_fpn{level}")
        np.testing.assert_array_equal(fetch(f"retnet_anchor_weights_fpn{level}")[at], rows)
        objects = fetch(f"retnet_positive_objects_fpn{level}")
        np.testing.assert_array_equal(objects[:, 0], places[:, 0])
        np.testing.assert_array_equal(objects[:, 2], labels[at])


@pytest.mark.parametrize("overrides", [(), ("LIBRA.RETINANET_WEIGHTS.SHUFFLED", "True")])
def test_a_resumed_run_gives_the_same_weights_and_log(tiny_config, tmp_path, overrides):
    common = (*IOU_BALANCED, *overrides, "SOLVER.MAX_ITER", "4", "LIBRA.LOG_PERIOD", "2")
    finals = []
    for name, snapshot in (("whole", "9"), ("parts", "2")):
        config = tiny_config(*common, "TRAIN.SNAPSHOT_ITERS", snapshot,
                             "OUTPUT_DIR", str(tmp_path / name))  # fmt: skip
        finals.append(train(config))
    folder = os.path.dirname(finals[1])
    os.remove(finals[1])
    assert os.path.exists(os.path.join(folder, "model_iter1.pkl"))
    train(config)
    from detectron_ext.engine.weights_file import read_weights

    whole, resumed = (read_weights(path).blobs for path in finals)
    assert set(whole) == set(resumed)
    for name, blob in whole.items():
        np.testing.assert_array_equal(resumed[name], blob)
    logs = [_read(os.path.join(os.path.dirname(path), "stats.jsonl"))[-1] for path in finals]
    names = ["positive_iou", "positive_share_above_iou75", "weight_share_above_iou75",
             "score_iou_correlation"]  # fmt: skip
    for name in names:
        assert logs[0][name] == logs[1][name]
    assert 0 < logs[0]["positive_iou"] < 1
    if not overrides:
        assert logs[0]["weight_share_above_iou75"] > logs[0]["positive_share_above_iou75"]


def test_predictions_that_are_not_a_number_end_the_training_with_one_line(tiny_config):
    config = tiny_config(*IOU_BALANCED, "SOLVER.BASE_LR", "1e30", "SOLVER.MAX_ITER", "4",
                         "SOLVER.WARM_UP_ITERS", "0")  # fmt: skip
    with pytest.raises(UserError, match="^the loss is (nan|inf) .* at iteration") as error:
        train(config)
    assert "\n" not in str(error.value)
