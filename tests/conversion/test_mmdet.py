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
from checkpoint_file import write_checkpoint

from detectron_ext import config as configuration
from detectron_ext.conversion.mmdet import convert_mmdet_weights
from detectron_ext.engine.weights_file import read_weights

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
    """Return a function: architecture, image -> checkpoint, mmdetection's outputs by name."""

    def run(arch, image):
        files = [place(name) for name in ("image.npy", "model.pth", "outputs.npz")]
        np.save(files[0], image)
        program = str(_FOLDER / "mmdet_peer.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
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
def test_outputs_equal_those_recorded_from_mmdetection(arch, place, monkeypatch):
    image = mmdet_random.synthetic_image()
    classes = [f"c{number}" for number in range(80)]
    write_checkpoint(place("m.pth"), arch, {"dataset_meta": {"classes": classes}})
    assert convert_mmdet_weights(place("m.pth"), place("m.pkl"), arch) == []
    _, cfg, named, _ = read_weights(place("m.pkl"))
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
