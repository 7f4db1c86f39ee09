"""EfficientNet-Lite0 with converted weights: its maps, and that it knows ImageNet."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from caffe2.python import workspace
from efficientnet_tensors import EPSILON, random_tensors, reference_maps
from hopper import PATH_IN_MATPLOTLIB, read_hopper
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.conversion.backbones import (
    EFFICIENTNET_SETTINGS,
    SOURCES,
    convert_backbone,
    read_backbone,
)
from detectron_ext.conversion.installed import find_installed
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.data.minibatch import prepare_image
from detectron_ext.engine.start_weights import start_from
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import ConfigError, UserError, WeightsError
from detectron_ext.modeling import build_model

_STAGES = ("mb2_2_sum", "mb3_1_sum", "mb4_5_sum", "mb5_4_project")
_SETTINGS = [part for pair in EFFICIENTNET_SETTINGS.items() for part in pair]
_RECORDED = Path(__file__).with_name("efficientnet_outputs.npz")
_MILITARY_UNIFORM = 652  # the number of ImageNet's class


def _maps(weights: str, image: np.ndarray) -> list:
    """The stages' maps of a BGR image, (C, rows, columns) each, as a detector computes them."""
    height, width = image.shape[:2]
    size = ["TEST.SCALE", min(height, width), "TEST.MAX_SIZE", max(height, width)]
    path = REPOSITORY / "configs" / "retinanet_R-36-tiny.yaml"
    config = configuration.load(str(path), ["MODEL.NUM_CLASSES", 3, *size, *_SETTINGS])
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    start_from(model, read_weights(weights), weights)
    data = prepare_image(image, config).image.transpose(2, 0, 1)[None]
    workspace.FeedBlob("data", np.ascontiguousarray(data))
    workspace.FeedBlob("im_info", np.float32([[height, width, 1]]))
    workspace.RunNetOnce(model.net)
    return [workspace.FetchBlob(name)[0] for name in _STAGES]


def _error(found, expected):
    """The largest difference in units of the largest value."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_a_source_of_the_wrong_kind_is_refused():
    with pytest.raises(ConfigError, match=r"--from: 'other' must be a Source, given"):
        SOURCES.register("other")(lambda tensors: {})


@pytest.fixture
def random_checkpoint(place):
    tensors = random_tensors()
    torch.save(tensors, place("random.pth"))
    return tensors, place("random.pth")


def test_random_weights_give_the_maps_of_the_definition(random_checkpoint, place):
    tensors, path = random_checkpoint
    backbone = convert_backbone(path, place("random.pkl"), "efficientnet_lite")
    assert (len(backbone.blobs), backbone.num_tensors, len(backbone.unused)) == (144, 240, 7)
    image = np.random.RandomState(1).randint(0, 256, (96, 160, 3)).astype(np.uint8)
    maps, expected = _maps(place("random.pkl"), image), reference_maps(tensors, image)
    assert [m.shape for m in maps] == [(24, 24, 40), (40, 12, 20), (112, 6, 10), (320, 3, 5)]
    for found, wanted in zip(maps, expected):
        assert _error(found, wanted) < 1e-5


def test_a_weights_file_stores_the_settings_that_it_needs(random_checkpoint, place):
    convert_backbone(random_checkpoint[1], place("random.pkl"), "efficientnet_lite")
    weights = read_weights(place("random.pkl"))
    stored = configuration.load_legacy_yaml(weights.cfg)
    assert stored["PIXEL_MEANS"] == [[[127.0, 127.0, 127.0]]]
    assert stored["MODEL"]["CONV_BODY"] == "FPN.add_fpn_EfficientNetLite0_conv5_body"
    assert weights.classes is None


@pytest.fixture
def installed():
    try:
        return find_installed("imagenet://EfficientNetLite0").path
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture
def photograph():
    path = os.path.join(os.path.dirname(matplotlib.__file__), *PATH_IN_MATPLOTLIB.split("/"))
    image, checksum = read_hopper(path)
    with np.load(str(_RECORDED)) as recorded:
        if checksum != recorded["checksum"]:
            pytest.skip(f"{path} is decoded to other pixels than when the outputs were recorded")
        return image, dict(recorded)


def test_a_photograph_gives_the_maps_and_classes_of_pytorch(installed, photograph, place):
    """Recorded by record_efficientnet.py from efficientnet-lite-pytorch."""
    image, recorded = photograph
    convert_backbone(installed, place("weights.pkl"), "efficientnet_lite")
    maps = _maps(place("weights.pkl"), image)
    for stage, found in enumerate(maps, start=2):
        assert found.shape == tuple(recorded[f"shape{stage}"])
        mean, deviation, largest = recorded[f"statistics{stage}"]
        values = found.ravel()[recorded[f"places{stage}"]]
        assert np.abs(values - recorded[f"values{stage}"]).max() < 1e-5 * largest
        assert abs(found.mean(dtype=float) - mean) < 1e-5 * largest
        assert abs(found.std(dtype=float) - deviation) < 1e-5 * largest
    scores = _class_scores(read_checkpoint(installed).tensors, maps[-1])
    assert np.argmax(scores) == _MILITARY_UNIFORM
    assert _error(scores, recorded["scores"]) < 1e-5


def _class_scores(tensors, features):
    """The classifier, which a detector has no use for: 1x1 convolution, mean, linear layer."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (tensors[f"_bn1.{kind}"] for kind in kinds)
    x = np.tensordot(tensors["_conv_head.weight"][:, :, 0, 0], features, 1).reshape(1280, -1)
    scale = gamma / np.sqrt(variance + EPSILON)
    x = np.clip(x * scale[:, None] + (beta - mean * scale)[:, None], 0, 6).mean(axis=1)
    return tensors["_fc.weight"] @ x + tensors["_fc.bias"]


def _set(name, value):
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda tensors: tensors.pop("_blocks.3._bn2.bias"), "it has no _blocks.3._bn2.bias"),
        (
            _set("_blocks.16._expand_conv.weight", torch.ones(1)),
            "it has _blocks.16._expand_conv.weight, which this network does not have",
        ),
        (
            _set("_blocks.0._project_conv.weight", torch.ones(24, 32, 1, 1)),
            "_blocks.0._project_conv.weight has shape (24, 32, 1, 1), not (16, 32, 1, 1)",
        ),
        (
            _set("_bn0.running_var", torch.full((32,), float("nan"))),
            "its values are not finite, those of stem_bn_s for one",
        ),
    ],
    ids=["lacking", "another network", "another width", "not finite"],
)
def test_other_tensors_are_refused(place, change, fault):
    tensors = random_tensors()
    change(tensors)
    torch.save(tensors, place("other.pth"))
    with pytest.raises(WeightsError) as error:
        read_backbone(place("other.pth"), "efficientnet_lite")
    assert fault in str(error.value) and "other.pth" in str(error.value)


def test_the_checkpoint_is_not_overwritten(random_checkpoint):
    path = random_checkpoint[1]
    with pytest.raises(UserError, match="is the checkpoint itself"):
        convert_backbone(path, path, "efficientnet_lite")
