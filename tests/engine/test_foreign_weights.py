"""Weights files of other programs are refused by a message that names the converter."""

from __future__ import annotations

import pickle
import re
import zipfile

import numpy as np
import pytest
import torch

from detectron_ext.engine.start_weights import local_weights
from detectron_ext.engine.weights_file import Weights, read_weights, write_weights
from detectron_ext.errors import WeightsError
from detectron_ext.shipped_files import tool_paths


def _refused(path) -> str:
    with pytest.raises(WeightsError) as raised:
        read_weights(local_weights(str(path)))
    message = str(raised.value)
    assert message.startswith(f"weights {path} ") and "\n" not in message
    return message


@pytest.mark.parametrize("name", ["model.pth", "model.pkl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_pytorch_name_the_converters(tmp_path, name, zipped):
    path = tmp_path / name
    options = {"_use_new_zipfile_serialization": zipped}
    torch.save({"state_dict": {"a": torch.ones(2)}}, str(path), **options)
    message = _refused(path)
    for tool in ("convert_mmdet_weights", "convert_backbone"):
        assert tool in message and tool in tool_paths()


@pytest.mark.parametrize("name", ["model.pth", "a.PT", "model.pth.tar", "epoch.ckpt"])
def test_a_damaged_checkpoint_is_known_by_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"damaged")
    assert "a PyTorch checkpoint" in _refused(path)


@pytest.mark.parametrize(
    "name, content, fault",
    [
        ("R-50.caffemodel", b"\x0a\x03abc", "a Caffe model: convert it with .*pickle_caffe_blobs"),
        ("init_net.pb", b"\x0a\x03abc", "name the .pkl that it was exported from"),
        ("model.onnx", b"\x08\x07", "an ONNX model, which this project does not convert"),
        ("yolov3.weights", b"\0\0\0\0", "a Darknet model"),
        ("model.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
        ("m.safetensors", b"\x10" + bytes(7) + b'{"a":{}}', "convert .*_backbone"),
        ("w.pkl", pickle.dumps({"model": {"a": np.ones(2)}}, 2), "a model of detectron2"),
    ],
)  # fmt: skip
def test_files_of_other_programs_are_named(tmp_path, name, content, fault):
    path = tmp_path / name
    path.write_bytes(content)
    message = _refused(path)
    assert re.search(fault, message)
    assert "docs/weights.md" in message


def test_archives_are_told_apart(tmp_path):
    np.savez(str(tmp_path / "w.npz"), a=np.ones(2))
    assert "a numpy archive" in _refused(tmp_path / "w.npz")
    with zipfile.ZipFile(str(tmp_path / "w.zip"), "w") as archive:
        archive.writestr("model_final.pkl", b"")
    assert "a zip archive: unpack it" in _refused(tmp_path / "w.zip")


def test_a_weights_file_may_have_any_name(tmp_path):
    path = str(tmp_path / "model.pth")
    write_weights(path, Weights({"a": np.ones(2, np.float32)}, None, None))
    assert read_weights(path).blobs["a"].sum() == 2


def test_a_missing_file_is_missing_whatever_its_name(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        read_weights(str(tmp_path / "none.pth"))
