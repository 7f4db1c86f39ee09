"""Exported nets, run by a process that has Caffe2 alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2

from detectron_ext import ops
from detectron_ext.commands.infer import infer
from detectron_ext.deployment.export import export_model
from detectron_ext.errors import UserError
from detectron_ext.ops.table import DETECTRON, LIBRA, operators_of

pytestmark = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="needs the native operators (make ops)"
)
_BARE = str(Path(__file__).resolve().parent / "bare_process.py")
_LIBRA = ("LIBRA.BFP.ON", True)
_MMDET = ("LIBRA.BOX_CONVENTION", "mmdet", "LIBRA.FPN.EXTRA_LEVELS_RELU", False)
_SIZE = (128, 128)
_LITE = ("MODEL.CONV_BODY", "FPN.add_fpn_EfficientNetLite0_conv5_body")


def _run_bare(folder, image):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, _BARE, str(folder), image],
        stdout=subprocess.PIPE, check=True, env=environment, cwd=str(folder),
    )  # fmt: skip
    return np.array(json.loads(done.stdout.splitlines()[-1])).reshape(-1, 6)


def _infer(config, weights, image, folder, threshold=0.05):
    """What tools/infer_simple.py lists, as rows of corners, score and class."""
    (found,) = infer(config, weights, image, str(folder), threshold=threshold).values()
    classes = {"square": 1, "disc": 2}
    rows = [[*entry["bbox"], entry["score"], classes[entry["class"]]] for entry in found]
    rows = np.array(rows).reshape(-1, 6)
    rows[:, 2:4] += rows[:, :2] - 1
    return rows


def _assert_same(found, expected):
    assert len(found) == len(expected) > 20
    for row in expected:
        errors = np.abs(found - row) / [0.02, 0.02, 0.02, 0.02, 1e-4, 0.5]
        assert errors.max(axis=1).min() < 1, row


@pytest.mark.parametrize(
    "kind, overrides",
    [
        ("retinanet", ()),
        ("retinanet", _LIBRA),
        ("retinanet", (*_LIBRA, "LIBRA.BFP.REFINE_LEVEL", 6, *_MMDET)),
        ("retinanet", _LITE),
        ("faster_rcnn", ()),
        ("faster_rcnn", (*_LIBRA, *_MMDET)),
        ("faster_rcnn", ("MODEL.CLS_AGNOSTIC_BBOX_REG", True, "TEST.SOFT_NMS.ENABLED", True)),
    ],
    ids=["retinanet", "libra retinanet", "libra retinanet, mmdet", "efficientnet", "faster",
         "libra faster, mmdet", "faster, boxes of no class"],
)  # fmt: skip
def test_a_process_with_only_caffe2_gives_the_detections_of_infer_simple(
    make_model, tmp_path, kind, overrides
):
    config, weights, image = make_model(kind, *overrides)
    about = export_model(config, weights, str(tmp_path / "pb"), _SIZE, keep_custom=False)
    assert about["classes"] == ["__background__", "square", "disc"]
    found = _run_bare(tmp_path / "pb", image)
    _assert_same(found, _infer(config, weights, image, tmp_path / "drawn"))


def test_a_two_stage_net_accepts_images_of_any_size(make_model, tmp_path):
    config, weights, image = make_model("faster_rcnn")
    about = export_model(config, weights, str(tmp_path / "pb"))
    assert "data_shape" not in about
    found = _run_bare(tmp_path / "pb", image)
    _assert_same(found, _infer(config, weights, image, tmp_path / "drawn"))


def test_an_image_without_objects_has_no_detections(make_model, tmp_path):
    config, weights, image = make_model("retinanet", "RETINANET.INFERENCE_TH", 0.999)
    export_model(config, weights, str(tmp_path / "pb"), _SIZE)
    assert len(_run_bare(tmp_path / "pb", image)) == 0


def test_the_image_size_may_be_larger_than_memory(make_model, tmp_path):
    config, weights, _ = make_model("retinanet")
    about = export_model(config, weights, str(tmp_path / "pb"), (100_000, 100_000))
    assert about["data_shape"] == [1, 3, 192, 192]


def test_libra_operators_are_replaced_only_if_requested(make_model, tmp_path):
    config, weights, _ = make_model("retinanet", *_LIBRA)
    net = caffe2_pb2.NetDef()
    for keep, expected in ((True, {"BalancedPyramidGather", "BalancedPyramidScatter",
                                   "NonLocalBlock"}), (False, set())):  # fmt: skip
        export_model(config, weights, str(tmp_path / "pb"), _SIZE, keep_custom=keep, name="n")
        net.ParseFromString((tmp_path / "pb" / "net.pb").read_bytes())
        types = {operator.type for operator in net.op}
        assert types & set(operators_of(LIBRA)) == expected
        assert not types & {*operators_of(DETECTRON), "Python", "StopGradient"}
        assert net.name == "n"
        assert list(net.external_input[:2]) == ["data", "im_info"]


@pytest.mark.parametrize(
    "overrides, size, fault",
    [
        ((), None, "--size"),
        (("TEST.BBOX_VOTE.ENABLED", True), _SIZE, "TEST.BBOX_VOTE"),
        (("BBOX_XFORM_CLIP", 2.0), _SIZE, "BBOX_XFORM_CLIP must be 4.1352"),
        (("RETINANET.SOFTMAX", True), _SIZE, "RETINANET.SOFTMAX"),
        (("RETINANET.SOFTMAX", True, "RETINANET.RETINANET_ON", False), _SIZE, "RETINANET.SOFTMAX"),
    ],
)
def test_what_cannot_be_exported_is_named(make_model, tmp_path, overrides, size, fault):
    config, weights, _ = make_model("retinanet", *overrides)
    with pytest.raises(UserError, match=fault):
        export_model(config, weights, str(tmp_path / "pb"), size)
