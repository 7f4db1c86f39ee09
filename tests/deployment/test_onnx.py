"""Exported ONNX models, run by onnxruntime: they find what `Detector` finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext import ops
from detectron_ext.deployment.onnx_detector import METADATA, OnnxDetector
from detectron_ext.engine.detector import Detector
from detectron_ext.errors import ConfigError, UserError

onnx = pytest.importorskip("onnx", reason="needs onnx (pip install onnx)")
pytest.importorskip("onnxruntime", reason="needs onnxruntime (pip install onnxruntime)")

from detectron_ext.deployment.to_onnx.detections import check_settings  # noqa: E402
from detectron_ext.deployment.to_onnx.export import export_onnx  # noqa: E402

pytestmark = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="needs the native operators (make ops)"
)
_LIBRA = ("LIBRA.BFP.ON", True)
_MMDET = ("LIBRA.BOX_CONVENTION", "mmdet", "LIBRA.FPN.EXTRA_LEVELS_RELU", False)
_LITE = ("MODEL.CONV_BODY", "FPN.add_fpn_EfficientNetLite0_conv5_body")
# Height and width: odd sides, an upright image, one that TEST.MAX_SIZE limits.
_SIZES = ((97, 131), (150, 90), (60, 300))
_TOOLS = Path(__file__).resolve().parents[2] / "tools"


def _images(sizes=_SIZES):
    rng = np.random.RandomState(1)
    return [
        cv2.resize(rng.randint(0, 256, (9, 12, 3), dtype=np.uint8), size[::-1]) for size in sizes
    ]


def _assert_same(found, expected, least=0.05):
    """Every detection above a score is found once, and nothing more."""
    expected, found = (rows[rows[:, 4] > least] for rows in (expected, found))
    free = np.ones(len(found), dtype=bool)
    for row in expected:
        errors = np.abs(found - row) / [0.05, 0.05, 0.05, 0.05, 1e-4, 0.5]
        matches = np.flatnonzero((errors.max(axis=1) < 1) & free) if len(found) else []
        assert len(matches), row
        free[matches[0]] = False
    assert not free.any()
    return len(expected)


@pytest.mark.parametrize(
    "kind, overrides",
    [
        ("retinanet", ()),
        ("retinanet", _LIBRA),
        ("retinanet", (*_LIBRA, "LIBRA.BFP.REFINE_TYPE", "conv")),
        ("retinanet", (*_LIBRA, "LIBRA.BFP.REFINE_TYPE", "none", "LIBRA.BFP.REFINE_LEVEL", 3)),
        ("retinanet", (*_LIBRA, "LIBRA.BFP.REFINE_LEVEL", 6, *_MMDET)),
        ("retinanet", ("RETINANET.SOFTMAX", True)),
        ("retinanet", ("RETINANET.CLASS_SPECIFIC_BBOX", True)),
        ("retinanet", ("TEST.BBOX_REG", False)),
        ("retinanet", _LITE),
        ("faster_rcnn", ()),
        ("faster_rcnn", (*_LIBRA, *_MMDET)),
        ("faster_rcnn", ("MODEL.CLS_AGNOSTIC_BBOX_REG", True)),
        ("faster_rcnn", ("FAST_RCNN.ROI_XFORM_METHOD", "RoIPoolF", "TEST.RPN_MIN_SIZE", 20)),
        ("faster_rcnn", ("FAST_RCNN.ROI_XFORM_SAMPLING_RATIO", 0, "TEST.BBOX_REG", False)),
    ],
    ids=["retinanet", "libra", "libra conv", "libra average", "libra mmdet", "softmax",
         "boxes by class", "anchors", "efficientnet", "faster", "libra faster, mmdet",
         "faster, boxes of no class", "faster, max pooling", "faster, regions"],
)  # fmt: skip
def test_every_detection_is_found_and_nothing_more(make_model, tmp_path, kind, overrides):
    config, weights, _ = make_model(kind, *overrides)
    path = str(tmp_path / "folder" / "model.onnx")
    export_onnx(config, weights, path)
    exported = OnnxDetector(path)
    assert exported.classes == ["__background__", "square", "disc"]
    detector = Detector(config, weights)
    counts = [_assert_same(exported(image), detector(image)) for image in _images()]
    assert sum(counts) > 60


def test_c4_body(make_model, tmp_path):
    config, weights, _ = make_model(
        "faster_rcnn",
        "FPN.FPN_ON", False, "FPN.MULTILEVEL_RPN", False, "FPN.MULTILEVEL_ROIS", False,
        "MODEL.CONV_BODY", "ResNet.add_ResNet50_conv4_body",
        "FAST_RCNN.ROI_BOX_HEAD", "ResNet.add_ResNet_roi_conv5_head",
        "FAST_RCNN.ROI_XFORM_RESOLUTION", 14, "RPN.SIZES", (32, 64), "TEST.RPN_POST_NMS_TOP_N", 50,
        noise=0.0005,
    )  # fmt: skip
    export_onnx(config, weights, str(tmp_path / "model.onnx"))
    detector = Detector(config, weights)
    image = _images()[0]
    assert _assert_same(OnnxDetector(str(tmp_path / "model.onnx"))(image), detector(image)) > 10


def test_model_of_fixed_size_refuses_other_images(make_model, tmp_path):
    config, weights, _ = make_model("retinanet", *_LIBRA)
    about = export_onnx(config, weights, str(tmp_path / "model.onnx"), (97, 131))
    assert about["image_size"] == [97, 131]
    sides = onnx.load(str(tmp_path / "model.onnx")).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [148, 200, 3]
    exported, (fits, other, _) = OnnxDetector(str(tmp_path / "model.onnx")), _images()
    _assert_same(exported(fits), Detector(config, weights)(fits))
    with pytest.raises(UserError, match="97 x 131 pixels .* has 150 x 90"):
        exported(other)


def test_uint8_image_that_is_not_scaled_gives_the_same(make_model, tmp_path):
    config, weights, _ = make_model("retinanet", "TEST.SCALE", 90)
    export_onnx(config, weights, str(tmp_path / "model.onnx"), input_type="uint8")
    image = _images()[1]
    exported = OnnxDetector(str(tmp_path / "model.onnx"))(image)
    assert _assert_same(exported, Detector(config, weights)(image)) > 20


@pytest.mark.parametrize("kind", ["retinanet", "faster_rcnn"])
def test_image_without_objects_has_no_detections(make_model, tmp_path, kind):
    never = ("RETINANET.INFERENCE_TH", 2.0, "TEST.SCORE_THRESH", 2.0)
    config, weights, _ = make_model(kind, *never)
    export_onnx(config, weights, str(tmp_path / "model.onnx"))
    found = OnnxDetector(str(tmp_path / "model.onnx"))(_images()[0])
    # RetinaNet's coarsest level gives its candidates whatever their score, as in Detectron.
    _assert_same(found, Detector(config, weights)(_images()[0]), least=0)
    assert found.shape[1] == 6 and (kind == "retinanet" or not len(found))


def test_limit_of_detections_holds(make_model, tmp_path):
    config, weights, _ = make_model("retinanet", "TEST.DETECTIONS_PER_IM", 3)
    export_onnx(config, weights, str(tmp_path / "model.onnx"))
    found = OnnxDetector(str(tmp_path / "model.onnx"))(_images()[0])
    assert len(found) == 3
    np.testing.assert_allclose(found, Detector(config, weights)(_images()[0]), atol=0.05)


def test_settings_without_an_operator_are_refused(make_model, tmp_path):
    config, weights, _ = make_model("retinanet")
    for key in ("TEST.SOFT_NMS", "TEST.BBOX_VOTE"):
        with pytest.raises(ConfigError, match=key):
            changed = config.with_overrides([f"{key}.ENABLED", True])
            export_onnx(changed, weights, str(tmp_path / "model.onnx"))
    with pytest.raises(UserError, match="TEST.WEIGHTS"):
        export_onnx(config, "", str(tmp_path / "model.onnx"))
    assert not (tmp_path / "model.onnx").exists()
    for folder in (str(tmp_path), str(tmp_path / "new") + "/"):
        with pytest.raises(UserError, match="is a folder"):
            export_onnx(config, weights, folder)
    assert not (tmp_path / "new").exists()


def test_operator_without_translation_is_named(make_model):
    from caffe2.python import core

    from detectron_ext.deployment.to_onnx.graph import Graph
    from detectron_ext.deployment.to_onnx.operators import Operator, translate

    operator = Operator(core.CreateOperator("Tanh", ["a"], ["b"]), [], {})
    with pytest.raises(UserError, match=r"Tanh \(output b\)"):
        translate(Graph(), operator)


def test_files_that_are_no_exported_model(tmp_path):
    with pytest.raises(UserError, match="not found"):
        OnnxDetector(str(tmp_path / "none.onnx"))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UserError, match="no ONNX model"):
        OnnxDetector(str(tmp_path / "text.onnx"))
    helper = onnx.helper
    value = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Relu", ["a"], ["b"])
    model = helper.make_model(
        helper.make_graph([node], "g", [value], [out]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=7,
    )  # fmt: skip
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(UserError, match="was not written by"):
        OnnxDetector(str(tmp_path / "foreign.onnx"))
    helper.set_model_props(model, {METADATA: json.dumps({"scale": 1})})
    onnx.save(model, str(tmp_path / "damaged.onnx"))
    with pytest.raises(UserError, match="lacks classes"):
        OnnxDetector(str(tmp_path / "damaged.onnx"))


def _tool(name, *arguments):
    return subprocess.run(
        [sys.executable, str(_TOOLS / name), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_tools_export_and_run(make_model, tmp_path):
    _, weights, image = make_model("retinanet")
    base = next(tmp_path.glob("*.yaml"))
    keys = ("FPN.COARSEST_STRIDE", 32, "TEST.SCALE", 170, "TEST.MAX_SIZE", 200)
    exported = tmp_path / "model.onnx"
    done = _tool("export_onnx.py", "--cfg", base, "--out", exported, *keys, "TEST.WEIGHTS", weights)
    assert done.returncode == 0, done.stdout
    options = ("--thresh", 0.05, "--always-out", image)
    ours = _tool("infer_simple.py", "--onnx", exported, "--output-dir", tmp_path / "a", *options)
    assert ours.returncode == 0, ours.stdout
    theirs = _tool(
        "infer_simple.py", "--cfg", base, "--wts", weights, "--output-dir", tmp_path / "b",
        *options, *keys,
    )  # fmt: skip
    assert theirs.returncode == 0, theirs.stdout
    found, expected = (
        json.loads((tmp_path / folder / "detections.json").read_text())["1.png"] for folder in "ab"
    )
    assert len(found) == len(expected) > 5
    assert (tmp_path / "a" / "1.png.png").exists()


def test_program_of_the_documentation_needs_no_caffe2(make_model, tmp_path):
    config, weights, image = make_model("retinanet")
    export_onnx(config, weights, str(tmp_path / "model.onnx"))
    text = (_TOOLS.parent / "docs" / "deployment.md").read_text()
    program = text.split("```python\n", 1)[1].split("```", 1)[0]
    assert len(program.splitlines()) <= 22
    program = program.replace('"image.jpg"', repr(image)).replace(">= 0.5", ">= 0.0")
    program += "import sys\nassert not {'caffe2', 'torch', 'detectron_ext'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = Detector(config, weights)(cv2.imread(image))
    assert len(done.stdout.splitlines()) == len(found) > 20


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--onnx", "a.onnx", "--cfg", "b.yaml"), "takes the place of --cfg"),
        (("--wts", "b.pkl"), "required: --cfg (or --onnx)"),
        (("--onnx", "none.onnx"), "not found"),
    ],
)
def test_wrong_arguments_end_with_one_line(arguments, message, tmp_path):
    done = _tool("infer_simple.py", *arguments, tmp_path)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert message in done.stdout


@pytest.mark.parametrize("path", sorted((_TOOLS.parent / "configs/finetune").glob("*.yaml")))
def test_what_is_trained_on_own_photographs_can_be_exported(path):
    check_settings(configuration.load(str(path), []))
