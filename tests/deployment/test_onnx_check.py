"""The comparison of an exported model with its detector finds every kind of difference."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from test_onnx import _TOOLS, _images

from detectron_ext.deployment import onnx_check
from detectron_ext.deployment.onnx_check import Difference, difference
from detectron_ext.errors import UserError

ROWS = np.array([[0, 0, 9, 9, 0.9, 1], [1, 1, 9, 9, 0.5, 2], [0, 0, 5, 5, 0.04, 1]], np.float32)


def test_equal_detections_in_another_order_do_not_differ():
    assert difference(ROWS, ROWS[::-1]) == Difference(2, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    "column, within, beyond", [(0, 0.04, 0.06), (3, 0.04, 0.06), (4, 9e-5, 2e-4)]
)
def test_corners_and_scores_may_differ_a_little(column, within, beyond):
    changed = ROWS.copy()
    changed[0, column] += within
    near = difference(ROWS, changed)
    assert (near.missing, near.more) == (0, 0)
    assert (near.scores if column == 4 else near.corners) == pytest.approx(within, rel=0.01)
    changed[0, column] += beyond
    assert difference(ROWS, changed)[:3] == (2, 1, 1)


def test_another_class_is_another_detection():
    changed = ROWS.copy()
    changed[0, 5] = 2
    assert difference(ROWS, changed)[:3] == (2, 1, 1)


def test_a_detection_is_paired_once():
    twice = np.vstack((ROWS[:1], ROWS))
    assert difference(twice, ROWS)[:3] == (3, 1, 0)
    assert difference(ROWS, twice)[:3] == (2, 0, 1)


def test_a_detection_on_the_limit_may_lie_on_either_side_of_it():
    above, below = ROWS[2:].copy(), ROWS[2:].copy()
    above[0, 4], below[0, 4] = 0.05001, 0.04999
    assert difference(above, below)[:3] == (1, 0, 0)
    assert difference(below, above)[:3] == (0, 0, 0)


def test_no_detections_at_all():
    none = np.zeros((0, 6), np.float32)
    assert difference(none, none) == Difference()
    assert difference(none, ROWS)[:3] == (0, 0, 2)
    assert difference(ROWS, none)[:3] == (2, 2, 0)


def test_differences_of_images_are_joined():
    joined = Difference(2, 1, 0, 0.1, 0.2).joined(Difference(3, 0, 4, 0.3, 0.1))
    assert joined == Difference(5, 1, 4, 0.3, 0.2)


def test_another_model_is_an_error(monkeypatch, capsys):
    """The error names how many detections differ, after the line of each image."""
    monkeypatch.setattr(onnx_check, "Detector", lambda config, weights: lambda image: ROWS)
    monkeypatch.setattr(onnx_check, "OnnxDetector", lambda path: lambda image: ROWS[1:])
    with pytest.raises(
        UserError, match="model.onnx does not find .*: 1 missing and 0 more of 2 det"
    ):
        onnx_check.check_onnx(None, "weights", "model.onnx", {"image.png": _images()[0]})
    first, all_images = capsys.readouterr().out.splitlines()
    assert first.startswith("image.png: 1 of 2 detections above 0.05 found, 0 more; corners differ")
    assert all_images.startswith("1 image: 1 of 2") and "s for an image" in all_images


def test_the_tool_checks_what_it_wrote(make_model, tmp_path):
    _, weights, _ = make_model("retinanet")
    for number, image in enumerate(_images()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    checks = [text for number in range(3) for text in ("--check", str(tmp_path / f"{number}.png"))]
    command = [sys.executable, str(_TOOLS / "export_onnx.py"), "--cfg", str(tmp_path / "tiny.yaml")]
    command += [*checks, "--out", str(tmp_path / "model.onnx"), "TEST.WEIGHTS", weights]
    output = subprocess.check_output(command, stderr=subprocess.STDOUT).decode()
    last = output.splitlines()[-1]
    assert last.startswith("3 images: ") and ", 0 more; " in last and "Caffe2 0." in last


def test_nothing_is_written_if_an_image_cannot_be_read(make_model, tmp_path):
    _, weights, _ = make_model("retinanet")
    command = [sys.executable, str(_TOOLS / "export_onnx.py"), "--cfg", str(tmp_path / "tiny.yaml")]
    command += ["--check", "no.png", "--out", str(tmp_path / "m.onnx"), "TEST.WEIGHTS", weights]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and not (tmp_path / "m.onnx").exists()
    assert ended.stderr.splitlines()[-1].startswith("error: no.png cannot be read")
