"""The tools that convert models, as they are run."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from tool_runner import failure, run_tool

from detectron_ext import ops


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


@pytest.mark.parametrize(
    "kind, fault",
    [
        ("missing", "No such file"),
        ("truncated", "is truncated or damaged"),
        ("malicious", "it names posix.mkdir; only tensors are read"),
        ("objects", "it holds an array of type O8"),
        ("others", "it has no backbone.bn1.weight: choose another --arch"),
    ],
)
def test_a_bad_checkpoint_ends_in_one_line(tmp_path, kind, fault):
    path = _checkpoint(kind, tmp_path)
    out = tmp_path / "out.pkl"
    arguments = ("--in", path, "--out", out, "--arch", "retinanet_r50")
    message = failure(run_tool("convert_mmdet_weights", *arguments))
    assert fault in message and str(path) in message
    assert not (tmp_path / "pwned").exists() and not out.exists()


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
