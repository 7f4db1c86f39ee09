"""Weights of negatives that depend on their gradients, in a training net."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from caffe2.python import workspace

from detectron_ext.engine.parameters import load_parameters, save_parameters
from detectron_ext.engine.train import train
from detectron_ext.engine.training_data import TrainingMinibatches, open_loader
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import ConfigError, UserError, WeightsError
from detectron_ext.modeling import build_model
from detectron_ext.ops import library, reference

KEY = "LIBRA.RETINANET_NEGATIVES"
BALANCED = (f"{KEY}.WEIGHTS", "gradient_balanced")
MASSES = "retnet_negative_masses"
LEVELS = range(3, 8)
BINS = 3


def _ran(config, steps=1, change=lambda blobs: None):
    """Run the training net on the first minibatch, with random heads; return a function that
    fetches a blob. The learning rate is 0, so that all steps have the same gradients."""
    workspace.ResetWorkspace()
    model = build_model(config, train=True)
    workspace.RunNetOnce(model.param_init_net)
    random = np.random.RandomState(3)
    shape = workspace.FetchBlob("retnet_cls_pred_fpn3_w").shape
    workspace.FeedBlob("retnet_cls_pred_fpn3_w", random.normal(0, 0.3, shape).astype(np.float32))
    with open_loader(TrainingMinibatches(config), config, 1, 0) as loader:
        (blobs,) = next(loader)
    change(blobs)
    for name, value in blobs.items():
        workspace.FeedBlob(name, value)
    workspace.FeedBlob("lr", np.zeros(1, np.float32))
    workspace.CreateNet(model.net, overwrite=True)
    for _ in range(steps):
        workspace.RunNet(model.net.Proto().name)
    return workspace.FetchBlob


def _slopes(fetch, config, level):
    """Return the gradient (N, A, H, W) that each negative would have without weights."""
    labels = fetch(f"retnet_cls_labels_fpn{level}")
    gradient = reference.sigmoid_focal_loss_gradient(
        fetch(f"retnet_cls_pred_fpn{level}"), np.where(labels == 0, 0, -1), fetch("retnet_fg_num"),
        1.0, gamma=config.RETINANET.LOSS_GAMMA, alpha=config.RETINANET.LOSS_ALPHA,
        num_classes=config.MODEL.NUM_CLASSES - 1,
    )  # fmt: skip
    n, anchors, height, width = labels.shape
    return np.abs(gradient).reshape(n, anchors, -1, height, width).sum(axis=2)


def _masses(fetch, config, of=lambda bins: bins):
    masses = np.zeros(BINS)
    for level in LEVELS:
        bins = of(fetch(f"retnet_negative_bins_fpn{level}"))
        slopes = _slopes(fetch, config, level)
        masses += np.bincount(bins.ravel(), slopes.ravel(), minlength=BINS + 1)[1:]
    return masses


def _weights_of_bins(fetch, of=lambda bins: bins):
    """Return the weight of each bin; fail if the anchors of one do not share it."""
    found = [set() for _ in range(BINS + 1)]
    for level in LEVELS:
        bins = of(fetch(f"retnet_negative_bins_fpn{level}"))
        weights = fetch(f"retnet_negative_weights_fpn{level}")
        for bin in range(BINS + 1):
            found[bin] |= set(weights[bins == bin].tolist())
    assert all(len(weights) == 1 for weights in found) and found[0] == {1.0}
    return np.array([weights.pop() for weights in found[1:]])


def _expected(masses, tau):
    factors = np.clip((masses / masses.mean()) ** -tau, 0.5, 2.0)
    return factors * masses.sum() / (factors * masses).sum()


@pytest.mark.parametrize("tau", ["0.5", "-1.0"])
@pytest.mark.parametrize("native", [True, False])
def test_weights_in_the_net_equal_their_definition(tiny_config, monkeypatch, native, tau):
    if not native:
        monkeypatch.setattr(library, "has_native", lambda operator: False)
    config = tiny_config(*BALANCED, f"{KEY}.TAU", tau)
    fetch = _ran(config)
    masses = _masses(fetch, config)
    assert masses.min() > 0 and masses.max() > 2 * masses.min()
    np.testing.assert_allclose(fetch(MASSES), masses, rtol=1e-4)
    weights = _weights_of_bins(fetch)
    np.testing.assert_allclose(weights, _expected(masses, float(tau)), rtol=1e-4)
    np.testing.assert_allclose((weights * masses).sum(), masses.sum(), rtol=1e-4)
    for level in LEVELS:
        loss = reference.weighted_sigmoid_focal_loss(
            fetch(f"retnet_cls_pred_fpn{level}"), fetch(f"retnet_cls_labels_fpn{level}"),
            fetch("retnet_fg_num"), fetch(f"retnet_negative_weights_fpn{level}"),
            gamma=config.RETINANET.LOSS_GAMMA, alpha=config.RETINANET.LOSS_ALPHA,
            num_classes=config.MODEL.NUM_CLASSES - 1,
        )  # fmt: skip
        np.testing.assert_allclose(fetch(f"fl_fpn{level}"), loss, rtol=1e-4)


def test_the_gradient_of_all_negatives_keeps_its_sum(tiny_config):
    """Measured at the logits, with the gradients that the net really has."""
    sums = []
    for overrides in ((), BALANCED):
        fetch = _ran(tiny_config("MEMONGER", "False", *overrides))
        total = by_hand = 0.0
        for level in LEVELS:
            labels = fetch(f"retnet_cls_labels_fpn{level}")
            n, anchors, height, width = labels.shape
            gradient = fetch(f"retnet_cls_pred_fpn{level}_grad")
            of_anchors = np.abs(gradient).reshape(n, anchors, -1, height, width).sum(axis=2)
            total += of_anchors[labels == 0].sum(dtype=np.float64)
            by_hand += of_anchors[labels > 0].sum(dtype=np.float64)
        sums.append((total, by_hand))
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)


def _parameters_after(config):
    blobs = read_weights(train(config)).blobs
    return {name: blob for name, blob in blobs.items() if name != MASSES}


def test_tau_0_trains_the_same_bits_as_no_weights(tiny_config, tmp_path):
    common = ("SOLVER.MAX_ITER", "3", "OUTPUT_DIR")
    plain = _parameters_after(tiny_config(*common, str(tmp_path / "plain")))
    uniform = _parameters_after(
        tiny_config(*common, str(tmp_path / "uniform"), *BALANCED, f"{KEY}.TAU", "0.0")
    )
    assert set(plain) == set(uniform)
    for name, blob in plain.items():
        np.testing.assert_array_equal(uniform[name], blob)


def test_the_running_mass_is_an_average_of_the_steps(tiny_config):
    config = tiny_config(*BALANCED, f"{KEY}.MOMENTUM", "0.75")
    first = _ran(config)(MASSES)
    np.testing.assert_allclose(_ran(config, steps=4)(MASSES), first, rtol=1e-6)

    def rarer(blobs):
        blobs["retnet_fg_num"] = blobs["retnet_fg_num"] * 2

    fetch = _ran(config, change=rarer)
    np.testing.assert_allclose(fetch(MASSES), first / 2, rtol=1e-5)


def test_without_negatives_and_without_positives_weights_are_1(tiny_config):
    def without(label):
        def change(blobs):
            for level in LEVELS:
                labels = blobs[f"retnet_cls_labels_fpn{level}"]
                bins = blobs[f"retnet_negative_bins_fpn{level}"]
                gone = labels > 0 if label else labels == 0
                labels[gone], bins[gone] = -1, 0
                if label:
                    for kind in ("roi_fg_bbox_locs", "roi_bbox_targets"):
                        name = f"retnet_{kind}_fpn{level}"
                        blobs[name] = blobs[name][:0]

        return change

    fetch = _ran(tiny_config(*BALANCED), change=without(0))
    np.testing.assert_array_equal(fetch(MASSES), np.zeros(BINS))
    for level in LEVELS:
        assert (fetch(f"retnet_negative_weights_fpn{level}") == 1).all()
    figures = fetch("sampling_counts_negatives")
    np.testing.assert_array_equal(figures, [0] * 6 + [1] * 4)

    fetch = _ran(tiny_config(*BALANCED), change=without(1))
    assert np.isfinite(fetch("fl_fpn3")) and fetch(MASSES).min() > 0
    assert len(set(_weights_of_bins(fetch))) == 3


def test_one_bin_and_an_empty_bin(tiny_config):
    fetch = _ran(tiny_config(*BALANCED, "LIBRA.RETINANET_SAMPLER.NUM_BINS", "1"))
    assert all((fetch(f"retnet_negative_weights_fpn{level}") == 1).all() for level in LEVELS)

    def only_far(blobs):
        for level in LEVELS:
            bins = blobs[f"retnet_negative_bins_fpn{level}"]
            blobs[f"retnet_cls_labels_fpn{level}"][bins == 2] = -1
            bins[bins == 2] = 0

    fetch = _ran(tiny_config(*BALANCED), change=only_far)
    masses = fetch(MASSES).astype(np.float64)
    assert masses[1] == 0
    expected = _expected(masses[[0, 2]], 0.5)
    np.testing.assert_allclose(fetch("retnet_negative_code_weights")[[1, 3]], expected, rtol=1e-4)


@pytest.mark.parametrize("shuffled", ["negatives", "bins"])
def test_the_controls_keep_the_sum_and_the_weights_but_not_their_bins(tiny_config, shuffled):
    config = tiny_config(*BALANCED, f"{KEY}.SHUFFLED", shuffled, f"{KEY}.TAU", "1.0")
    fetch = _ran(config)
    if shuffled == "bins":
        masses, weights = _masses(fetch, config), _weights_of_bins(fetch)
        groups = masses
    else:
        masses = _masses(fetch, config, lambda codes: (codes + BINS - 1) // BINS)
        exchanged = lambda codes: np.where(codes == 0, 0, (codes - 1) % BINS + 1)  # noqa: E731
        groups, weights = _masses(fetch, config, exchanged), _weights_of_bins(fetch, exchanged)
        assert not np.allclose(groups, masses, rtol=0.1)
    np.testing.assert_allclose(fetch(MASSES), masses, rtol=1e-4)
    np.testing.assert_allclose((weights * groups).sum(), masses.sum(), rtol=1e-4)
    factors = np.clip(masses.mean() / masses, 0.5, 2)
    found, wanted = (np.sort(values / values.max()) for values in (weights, factors))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_weights_of_positives_are_used_beside_them(tiny_config):
    positive = ("LIBRA.RETINANET_WEIGHTS.POSITIVE", "iou_balanced")
    alone = _ran(tiny_config(*positive))
    of_positives = {level: alone(f"retnet_anchor_weights_fpn{level}") for level in LEVELS}
    fetch = _ran(tiny_config(*positive, *BALANCED))
    negatives = _weights_of_bins(fetch)
    assert len(set(negatives)) == 3
    for level in LEVELS:
        labels = fetch(f"retnet_cls_labels_fpn{level}")
        weights = fetch(f"retnet_anchor_weights_fpn{level}")
        np.testing.assert_array_equal(weights[labels > 0], of_positives[level][labels > 0])
        bins = fetch(f"retnet_negative_bins_fpn{level}")[labels == 0]
        np.testing.assert_allclose(weights[labels == 0], negatives[bins - 1], rtol=1e-6)


def _figures(path):
    with open(os.path.join(os.path.dirname(path), "stats.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    return [{k: v for k, v in line.items() if k.startswith("negative_")} for line in lines]


@pytest.mark.parametrize("shuffled", ["none", "negatives", "bins"])
def test_a_resumed_run_gives_the_same_weights_and_log(tiny_config, tmp_path, shuffled):
    common = (*BALANCED, f"{KEY}.SHUFFLED", shuffled, "SOLVER.MAX_ITER", "4",
              "LIBRA.LOG_PERIOD", "2")  # fmt: skip
    finals = []
    for name, snapshot in (("whole", "9"), ("parts", "2")):
        config = tiny_config(*common, "TRAIN.SNAPSHOT_ITERS", snapshot,
                             "OUTPUT_DIR", str(tmp_path / name))  # fmt: skip
        finals.append(train(config))
    os.remove(finals[1])
    assert os.path.exists(os.path.join(os.path.dirname(finals[1]), "model_iter1.pkl"))
    train(config)
    whole, resumed = (read_weights(path).blobs for path in finals)
    assert set(whole) == set(resumed) and whole[MASSES].min() > 0
    for name, blob in whole.items():
        np.testing.assert_array_equal(resumed[name], blob)
    logs = [_figures(path) for path in finals]
    assert logs[0][-1] == logs[1][-1]
    assert len(logs[0][-1]) == 3 * BINS
    spread = [
        np.std([logs[0][-1][f"negative_{kind}_share_bin{bin}"] for bin in range(BINS)])
        for kind in ("gradient", "weighted")
    ]
    if shuffled == "none":
        assert spread[1] < spread[0]


def test_a_checkpoint_without_the_masses_is_refused(tiny_config, tmp_path):
    config = tiny_config(*BALANCED)
    _ran(config)
    model = build_model(config, train=True)
    path = str(tmp_path / "weights.pkl")
    save_parameters(model, path, None)
    stored = read_weights(path)
    assert stored.blobs[MASSES].shape == (BINS,)
    masses = stored.blobs.pop(MASSES)
    write_weights(path, Weights(stored.blobs, stored.cfg, stored.classes))
    with pytest.raises(WeightsError, match="lack 1 of the model's 1 states: retnet_negative_mass"):
        load_parameters(model, path)
    stored.blobs[MASSES] = masses[:2]
    write_weights(path, Weights(stored.blobs, stored.cfg, stored.classes))
    with pytest.raises(WeightsError, match=r"retnet_negative_masses is \(2,\), .* needs \(3,\)"):
        load_parameters(model, path)


def test_masses_of_several_gpus_become_their_mean_on_one(tiny_config, tmp_path):
    config = tiny_config(*BALANCED)
    _ran(config)
    model = build_model(config, train=True)
    path = str(tmp_path / "weights.pkl")
    save_parameters(model, path, None)
    stored = read_weights(path)
    stored.blobs[MASSES] = np.float32([1, 2, 3, 5, 4, 3])
    write_weights(path, Weights(stored.blobs, stored.cfg, stored.classes))
    load_parameters(model, path)
    np.testing.assert_array_equal(workspace.FetchBlob(MASSES), [3, 3, 3])


def test_a_training_that_starts_from_weights_has_masses_of_its_own(tiny_config, tmp_path):
    first = tiny_config(*BALANCED, "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", str(tmp_path / "first"))
    path = train(first)
    assert read_weights(path).blobs[MASSES].min() > 0
    follow = tiny_config(*BALANCED, "SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "0.0",
                         "TRAIN.WEIGHTS", path, f"{KEY}.MOMENTUM", "1.0",
                         "OUTPUT_DIR", str(tmp_path / "second"))  # fmt: skip
    second = read_weights(train(follow)).blobs
    assert (second[MASSES] != read_weights(path).blobs[MASSES]).all()


def test_a_test_model_has_no_masses(tiny_config):
    assert build_model(tiny_config(*BALANCED), train=False).states == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("RETINANET.SOFTMAX", "True"), "gradient_balanced needs RETINANET.SOFTMAX False"),
        (("LIBRA.RETINANET_SAMPLER.MODE", "reweight"), "MODE reweight both weigh negatives"),
        (
            ("LIBRA.RETINANET_SAMPLER.NUM_BINS", "65", f"{KEY}.SHUFFLED", "negatives"),
            "NUM_BINS 65 is too large",
        ),
        (("LIBRA.CLASS_LOSS", "quality_focal"), "gradient_balanced needs LIBRA.CLASS_LOSS focal"),
    ],
)
def test_what_cannot_be_combined_is_refused_with_one_line(tiny_config, overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        build_model(tiny_config(*BALANCED, *overrides), train=True)
    assert "\n" not in str(error.value)


def test_predictions_that_are_not_a_number_end_the_training_with_one_line(tiny_config):
    config = tiny_config(*BALANCED, "SOLVER.BASE_LR", "1e30", "SOLVER.MAX_ITER", "4",
                         "SOLVER.WARM_UP_ITERS", "0")  # fmt: skip
    with pytest.raises(UserError, match=r"^the loss is (nan|inf) \(") as error:
        train(config)
    assert "\n" not in str(error.value)
