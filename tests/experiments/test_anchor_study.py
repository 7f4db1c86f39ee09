"""The study of anchors: its samples and labels are those of training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from caffe2.python import workspace
from squares import write_tiny_config

from detectron_ext import config as configuration
from detectron_ext.data.minibatch import load_sample
from detectron_ext.data.records import training_records
from detectron_ext.engine.parameters import save_parameters
from detectron_ext.experiments import figures
from detectron_ext.experiments.anchor_study import _pyramid_blobs, study_training_images
from detectron_ext.modeling import build_model, retinanet_detector
from detectron_ext.sampling.retinanet_sampler import negative_limit
from detectron_ext.sampling.retinanet_targets import RetinanetTargets

_NUM_IMAGES = 4


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Return a function that loads a tiny RetinaNet with a balanced pyramid, with overrides."""
    path = str(write_tiny_config(tmp_path_factory.mktemp("study")))
    return lambda *overrides: configuration.load(path, ["LIBRA.BFP.ON", True, *overrides])


@pytest.fixture(scope="module")
def config(load):
    """On crops that cut most of the objects."""
    return load("LIBRA.AUGMENTATION.CROP", True, "LIBRA.AUGMENTATION.SCALE_RANGE", (1.5, 2.0))


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    """A file of the weights that training starts with."""
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    path = str(tmp_path_factory.mktemp("weights") / "start.pkl")
    save_parameters(model, path, ["background", "square", "disc"])
    return path


def _training_samples(config):
    """The samples that the study draws."""
    rng = np.random.default_rng(config.RNG_SEED)
    records, _ = training_records(config.TRAIN.DATASETS, config)
    order = rng.permutation(len(records))[:_NUM_IMAGES]
    return [load_sample(records[index], config, rng, train=True) for index in order]


def _training_labels(sample, config):
    blobs = RetinanetTargets(config)([sample], 128, 128, np.random.default_rng(0))
    return np.concatenate([blobs[f"retnet_cls_labels_fpn{k}"].ravel() for k in range(3, 8)])


def test_labels_equal_those_of_training_also_for_cropped_objects(config, weights):
    study = study_training_images(config, weights, _NUM_IMAGES)
    samples = _training_samples(config)
    assert any(sample.is_crowd.any() for sample in samples), "no crop leaves a sliver: change it"
    assert len(study.images) == _NUM_IMAGES
    assert study.levels == (3, 4, 5, 6, 7) and study.energies.shape == (2, 5)
    for image, sample in zip(study.images, samples):
        np.testing.assert_array_equal(image.labels, _training_labels(sample, config))
        assert len(image.box_errors) == np.count_nonzero(image.labels > 0)
        assert len(image.logits) == len(image.overlaps) == len(image.labels)


@pytest.mark.parametrize("mode", ["atss", "select"])
def test_labels_are_those_of_a_mode_that_assigns(config, weights, mode):
    config = config.with_overrides(["LIBRA.RETINANET_SAMPLER.MODE", mode])
    study = study_training_images(config, weights, 2)
    plain = config.with_overrides(["LIBRA.RETINANET_SAMPLER.MODE", "none"])
    assigning = config if mode == "atss" else plain
    for image, sample in zip(study.images, _training_samples(config)):
        np.testing.assert_array_equal(image.labels, _training_labels(sample, assigning))
        assert len(image.box_errors) == np.count_nonzero(image.labels > 0)
    assert figures.gradient_figure(study, config) and figures.negatives_figure(
        study, negative_limit(config), 2.0, 0
    )


@pytest.mark.parametrize("refine", ["none", "conv", "non_local"])
def test_features_before_balancing_are_the_inputs_of_the_pyramid(load, monkeypatch, refine):
    given = []

    def add(model, pyramid):
        given.extend(pyramid.blobs)
        return original(model, pyramid)

    original = retinanet_detector.add_balanced_pyramid
    monkeypatch.setattr(retinanet_detector, "add_balanced_pyramid", add)
    config = load("LIBRA.BFP.REFINE_TYPE", refine)
    model = build_model(config, train=False)
    net = SimpleNamespace(operators=lambda: list(model.net.Proto().op))
    before, after = _pyramid_blobs(net, config)
    assert list(map(str, before)) == list(map(str, given)) and len(given) == 5
    assert after == [f"bfp_fpn{level}" for level in range(3, 8)]
