"""The tools that convert models, as they are run."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from efficientnet_tensors import random_tensors
from tool_runner import failure, run_tool

from detectron_ext import ops
from detectron_ext.engine.weights_file import read_weights


class _Command:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def _checkpoint(kind, tmp_path):
    path = tmp_path / f"{kind}.pth"
    content = {"state_dict": {"backbone.conv1.weight": torch.ones(64, 3, 7, 7)}}
    if kind == "malicious":
        command = content["x"] = _Command()
        command.folder = str(tmp_path / "pwned")
    if kind == "objects":
        content["x"] = np.array([None])
    if kind != "missing":
        torch.save(content, str(path))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:20000])
    return path


_TOOLS = {
    "convert_mmdet_weights": ("--arch", "retinanet_r50"),
    "convert_backbone": ("--from", "efficientnet_lite"),
}


@pytest.mark.parametrize(
    "kind, fault",
    [
        ("missing", "No such file"),
        ("truncated", "is truncated or damaged"),
        ("malicious", "it names posix.mkdir; only tensors are read"),
        ("objects", "it holds an array of type O8"),
        ("others", "it has no "),
    ],
)
@pytest.mark.parametrize("name", _TOOLS)
def test_a_bad_checkpoint_ends_in_one_line(tmp_path, name, kind, fault):
    path = _checkpoint(kind, tmp_path)
    out = tmp_path / "out.pkl"
    message = failure(run_tool(name, "--in", path, "--out", out, *_TOOLS[name]))
    assert fault in message and str(path) in message
    if kind == "others":
        advice = {"convert_mmdet_weights": "another --arch", "convert_backbone": "another network?"}
        assert message.endswith(advice[name])
    assert not (tmp_path / "pwned").exists() and not out.exists()


def test_a_backbone_is_converted(tmp_path):
    path, out = tmp_path / "lite0.pth", tmp_path / "lite0.pkl"
    torch.save(random_tensors(), str(path))
    outcome = run_tool(
        "convert_backbone", "--from", "efficientnet_lite", "--in", path, "--out", out
    )
    assert outcome.status == 0, outcome.err
    written, settings = outcome.out.splitlines()
    assert written.startswith(f"written: {out}, 144 blobs from 240 tensors; not used: _conv_head.")
    assert settings == (
        "train from it with: MODEL.CONV_BODY FPN.add_fpn_EfficientNetLite0_conv5_body "
        f'PIXEL_MEANS "[[[127.0, 127.0, 127.0]]]" TRAIN.WEIGHTS {out}'
    )
    assert read_weights(str(out)).blobs["stem_w"].shape == (32, 3, 3, 3)


def test_an_unknown_origin_is_named(tmp_path):
    message = failure(run_tool("convert_backbone", "--from", "x", "--in", "a", "--out", "b"))
    assert "--from" in message and "efficientnet_lite" in message


def test_an_unknown_architecture_is_named():
    message = failure(run_tool("convert_mmdet_weights", "--in", "a", "--out", "b", "--arch", "ssd"))
    assert "ssd" in message and "libra_retinanet_r50" in message


needs_native = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="needs the native operators (make ops)"
)


@needs_native
def test_a_model_is_exported(tool, workplace, tmp_path):
    arguments = ("--out_dir", tmp_path / "pb", "--size", 128, 128, "--stock-ops")
    outcome = tool("convert_pkl_to_pb", *arguments, "TEST.WEIGHTS", workplace.weights)
    assert outcome.status == 0, outcome.err
    assert "data: 1 x 3 x 128 x 128" in outcome.out
    assert {f.name for f in (tmp_path / "pb").iterdir()} == {"net.pb", "init_net.pb", "net.json"}


@needs_native
@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["TEST.WEIGHTS", "{weights}"], "give --size HEIGHT WIDTH"),
        (["--size", "0", "9", "TEST.WEIGHTS", "{weights}"], "--size needs numbers above 0"),
        (["--size", "128", "128"], "no weights to export: set TEST.WEIGHTS"),
        (["--size", "128", "128", "TEST.WEIGHTS", "none.pkl"], "weights file not found: none.pkl"),
        (["--size", "128", "128", "TEST.WEIGHTS", "{cfg}"], "truncated or damaged"),
        (["--out_dir", "{cfg}/x", "--size", "128", "128", "TEST.WEIGHTS", "{weights}"],
         "cannot write to folder"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(tool, workplace, tmp_path, arguments, fault):
    places = {"weights": workplace.weights, "cfg": workplace.cfg}
    arguments = [text.format(**places) for text in arguments]
    assert fault in failure(tool("convert_pkl_to_pb", "--out_dir", tmp_path / "pb", *arguments))


def test_files_that_are_no_caffe_network_end_in_one_line(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("no network")
    arguments = ("--prototxt", path, "--caffemodel", path, "--output", tmp_path / "w.pkl")
    assert f"{path} are not a Caffe network" in failure(run_tool("pickle_caffe_blobs", *arguments))
