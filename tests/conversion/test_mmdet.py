"""Converted detectors of mmdetection against mmdetection itself.

The tests with a peer run mmdetection, in this Python or in the one that the environment variable
MMDET_PYTHON names. The others compare with numbers recorded from it:

    python tests/conversion/record_mmdet.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import converted_model
import cv2
import mmdet_random
import numpy as np
import pytest
import torch
from checkpoint_file import write_checkpoint

from detectron_ext import config as configuration
from detectron_ext.conversion.mmdet import convert_mmdet_weights
from detectron_ext.conversion.to_mmdet import convert_to_mmdet
from detectron_ext.engine.weights_file import read_weights, write_weights
from detectron_ext.errors import UserError, WeightsError

_FOLDER = Path(__file__).resolve().parent
_RECORDED = json.loads((_FOLDER / "mmdet_outputs.json").read_text())
_ARCHITECTURES = pytest.mark.parametrize("arch", mmdet_random.ARCHITECTURES)


@pytest.fixture(scope="session")
def peer_python():
    """A Python that has mmdetection."""
    python = os.environ.get("MMDET_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import mmdet"], stderr=subprocess.PIPE, check=False)
    if found.returncode and b"mmdet'" in found.stderr:
        pytest.skip("needs mmdetection (or set MMDET_PYTHON to a Python that has it)")
    return python


@pytest.fixture
def run_peer(peer_python, place):
    """Return a function: architecture, image -> checkpoint, mmdetection's outputs by name.

    With ``load`` mmdetection runs that checkpoint, else random weights.
    """

    def run(arch, image, load=None):
        files = [place(name) for name in ("image.npy", "model.pth", "outputs.npz")]
        np.save(files[0], image)
        program = str(_FOLDER / "mmdet_peer.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if load:
            files = [files[0], load, files[2], "load"]
        subprocess.run([peer_python, program, arch, *files], check=True, env=environment)
        with np.load(files[2]) as outputs:
            return files[1], dict(outputs)

    return run


def _assert_close(found, expected, name):
    """Relative to the output's largest value."""
    assert found.shape == expected.shape, name
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < 1e-4, (name, error)


@_ARCHITECTURES
@pytest.mark.parametrize("photograph", [True, False], ids=["photograph", "synthetic"])
def test_outputs_equal_those_of_mmdetection(
    arch, photograph, run_peer, shared_path, place, monkeypatch
):
    """All raw outputs, and the detections, which depend on anchors, decoding and suppression."""
    image = mmdet_random.synthetic_image()
    if photograph:
        image = cv2.imread(str(shared_path("data/bccd/images/BloodImage_00000.jpg")))
    checkpoint, expected = run_peer(arch, image)
    assert convert_mmdet_weights(checkpoint, place("m.pkl"), arch) == []
    outputs = converted_model.run(arch, place("m.pkl"), image, monkeypatch)
    assert outputs.keys() == expected.keys()
    _assert_same_detections(outputs.pop("detections"), expected["detections"])
    for name, output in outputs.items():
        _assert_close(output, expected[name], name)


def _assert_same_detections(found, expected):
    """Each once, at 0.01 pixel and 0.0001 of the score."""
    for row in expected:
        errors = np.abs(found - row) / [0.01, 0.01, 0.01, 0.01, 1e-4, 0.5]
        assert errors.max(axis=1).min() < 1, row
    assert len(found) >= len(expected)


@_ARCHITECTURES
def test_mmdetection_loads_the_way_back_strictly(arch, run_peer, place):
    image = mmdet_random.synthetic_image()
    checkpoint, expected = run_peer(arch, image)
    convert_mmdet_weights(checkpoint, place("m.pkl"), arch)
    convert_to_mmdet(place("m.pkl"), place("back.pth"), arch)
    _, found = run_peer(arch, image, load=place("back.pth"))
    for name in expected:
        if name != "detections":
            _assert_close(found[name], expected[name], name)
    _assert_same_detections(found["detections"], expected["detections"])


# Together these have every kind of layer.
@pytest.mark.parametrize(
    "arch, style", [("libra_retinanet_r50", "pytorch"), ("faster_rcnn_r50", "caffe")]
)
def test_there_and_back_gives_equal_bits(arch, style, place):
    write_checkpoint(place("m.pth"), arch, {"dataset_meta": {"classes": ["c"] * 80}})
    convert_mmdet_weights(place("m.pth"), place("m.pkl"), arch, style)
    needed = convert_to_mmdet(place("m.pkl"), place("back.pth"), arch)
    assert needed["model.backbone.style"] == style
    assert needed["model.data_preprocessor.bgr_to_rgb"] is (style == "pytorch")
    convert_mmdet_weights(place("back.pth"), place("again.pkl"), arch)
    first, again = read_weights(place("m.pkl")), read_weights(place("again.pkl"))
    assert (first.classes, first.cfg) == (again.classes, again.cfg)
    assert first.blobs.keys() == again.blobs.keys()
    for name, blob in first.blobs.items():
        np.testing.assert_array_equal(blob, again.blobs[name], name)
    names = {name: value.shape for name, value in mmdet_random.random_state(arch).items()}
    tensors = torch.load(place("back.pth"))["state_dict"]
    assert {name: tuple(value.shape) for name, value in tensors.items()} == names


def test_wrong_weights_end_with_one_message(place):
    write_checkpoint(place("m.pth"), "retinanet_r50")
    convert_mmdet_weights(place("m.pth"), place("m.pkl"), "retinanet_r50")
    for arch in ("faster_rcnn_r50", "libra_retinanet_r50"):
        with pytest.raises(WeightsError, match="^weights .* choose another --arch"):
            convert_to_mmdet(place("m.pkl"), place("out.pth"), arch)
    with pytest.raises(UserError, match="weights file itself"):
        convert_to_mmdet(place("m.pkl"), place("m.pkl"), "retinanet_r50")
    weights = read_weights(place("m.pkl"))
    mask = {**weights.blobs, "mask_fcn1_w": np.zeros((2, 2, 3, 3), np.float32)}
    write_weights(place("mask.pkl"), weights._replace(blobs=mask))
    with pytest.raises(WeightsError, match="mask_fcn1_w"):
        convert_to_mmdet(place("mask.pkl"), place("out.pth"), "retinanet_r50")
    assert not os.path.exists(place("out.pth"))


@_ARCHITECTURES
def test_outputs_equal_those_recorded_from_mmdetection(arch, place, monkeypatch):
    image = mmdet_random.synthetic_image()
    classes = [f"c{number}" for number in range(80)]
    write_checkpoint(place("m.pth"), arch, {"dataset_meta": {"classes": classes}})
    assert convert_mmdet_weights(place("m.pth"), place("m.pkl"), arch) == []
    _, cfg, named, *_ = read_weights(place("m.pkl"))
    assert named == ["__background__", *classes]
    assert configuration.load_legacy_yaml(cfg)["LIBRA"]["BFP"]["ON"] is arch.startswith("libra")

    outputs = converted_model.run(arch, place("m.pkl"), image, monkeypatch)
    recorded = _RECORDED[arch]
    assert outputs.keys() == recorded.keys()
    found, expected = outputs.pop("detections"), np.float32(recorded["detections"])
    _assert_same_detections(found, expected)
    assert list(found[:3, 5]) == list(expected[:3, 5])
    for name, output in outputs.items():
        places, values, largest = (recorded[name][key] for key in ("places", "values", "largest"))
        error = np.abs(output.ravel()[places] - values).max() / largest
        assert error < 1e-4, (name, error)
