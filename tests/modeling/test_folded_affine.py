"""Fixed scales are folded into the convolutions before them, and only where that is right."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext import config as configuration
from detectron_ext.data.minibatch import image_blobs, prepare_image
from detectron_ext.engine import detector
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.modeling import build_model
from detectron_ext.modeling.folded_affine import fold_affine_channels, folded_parameters


def _operators(*lines):
    """Return operators written as "type: inputs > outputs"."""
    found = []
    for line in lines:
        kind, _, blobs = line.partition(":")
        inputs, outputs = (side.split() for side in blobs.split(">"))
        found.append(core.CreateOperator(kind, inputs, outputs))
    return found


def _types(*lines):
    return [op.type for op in fold_affine_channels(_operators(*lines))[0]]


def test_a_scale_in_place_is_folded():
    lines = "Conv: x w > y", "AffineChannel: y s b > y", "Relu: y > y", "Sum: y y > z"
    operators, (fold,) = fold_affine_channels(_operators(*lines))
    assert [op.type for op in operators] == ["Conv", "Relu", "Sum"]
    assert list(operators[0].input) == ["x", fold.folded_filters, fold.folded_bias]
    assert (fold.filters, fold.bias, fold.scale, fold.shift) == ("w", "", "s", "b")


def test_a_scale_with_an_output_of_its_own_is_folded_if_nobody_else_reads_the_convolution():
    scaled = "Conv: x w > y", "AffineChannel: y s b > z"
    operators, _ = fold_affine_channels(_operators(*scaled, "Relu: z > z"))
    assert [op.type for op in operators] == ["Conv", "Relu"] and operators[0].output[0] == "z"
    assert _types(*scaled, "Sum: y z > t") == ["Conv", "AffineChannel", "Sum"]
    assert _types(*scaled, "Conv: x w > y") == ["Conv", "Conv"]  # another value of y


@pytest.mark.parametrize(
    "lines",
    [
        ("Conv: x w > y", "Relu: y > y", "AffineChannel: y s b > y"),
        ("Conv: x w > y", "Relu: y > z", "AffineChannel: y s b > y"),
        ("Conv: x w > y", "Relu: x > z", "Relu: z > t", "AffineChannel: y s b > z"),
        ("Relu: q > s", "Conv: x w > y", "AffineChannel: y s b > y"),
        ("Relu: q > w", "Conv: x w > y", "AffineChannel: y s b > y"),
        ("Conv: x w > y", "AffineChannel: x s b > x"),
    ],
)
def test_what_cannot_be_folded_stays(lines):
    assert _types(*lines) == [line.partition(":")[0] for line in lines]


def test_nhwc_is_not_folded():
    operators = _operators("Conv: x w > y", "AffineChannel: y s b > y")
    operators[0].arg.extend(core.CreateOperator("A", [], [], order="NHWC").arg)
    assert len(fold_affine_channels(operators)[0]) == 2


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_folded_convolution_gives_what_both_gave(group, has_bias):
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 8, 9, 7), "w": (12, 8 // group, 3, 3), "c": (12,), "s": (12,), "b": (12,)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    inputs = ["x", "w", "c"] if has_bias else ["x", "w"]
    operators = [
        core.CreateOperator(
            "Conv", inputs, ["y"], kernel=3, group=group, order="NCHW", no_bias=int(not has_bias)
        ),
        core.CreateOperator("AffineChannel", ["y", "s", "b"], ["y"]),
    ]
    workspace.ResetWorkspace()
    for name, value in values.items():
        workspace.FeedBlob(name, value)
    workspace.RunOperatorsOnce(operators)
    expected = workspace.FetchBlob("y")
    (folded,), (fold,) = fold_affine_channels(operators)
    bias = values["c"] if fold.bias else None
    made = folded_parameters(values["w"], bias, values["s"], values["b"])
    for name, value in zip((fold.folded_filters, fold.folded_bias), made):
        workspace.FeedBlob(name, value)
    workspace.RunOperatorOnce(folded)
    error = np.linalg.norm(workspace.FetchBlob("y") - expected) / np.linalg.norm(expected)
    assert error < 1e-6


def _random_weights(config, path):
    """Write random weights, whose fixed scales and shifts are random, too."""
    workspace.ResetWorkspace()
    model = build_model(config, train=False)
    workspace.RunNetOnce(model.param_init_net)
    blobs = {str(name): workspace.FetchBlob(str(name)) for name in model.params}
    rng = np.random.default_rng(1)
    for name, value in blobs.items():
        if name.endswith("_bn_s"):
            blobs[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif name.endswith("_bn_b"):
            blobs[name] = rng.normal(size=value.shape).astype(np.float32)
    write_weights(path, Weights(blobs, None, None, None))


@pytest.mark.parametrize(
    "write, output",
    [(write_tiny_config, "retnet_cls_pred_fpn3"), (write_tiny_rcnn_config, "rpn_cls_logits_fpn3")],
)
def test_a_detector_with_folded_scales_computes_the_same(write, output, tmp_path):
    path, weights = str(write(tmp_path)), str(tmp_path / "weights.pkl")
    settings = "MODEL.CONV_BODY", "FPN.add_fpn_ResNet18_conv5_body"
    _random_weights(configuration.load(path, settings), weights)
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3)).astype(np.uint8)
    outputs, scales = [], []
    for fold in ("True", "False"):
        config = configuration.load(path, [*settings, "LIBRA.FOLD_AFFINE", fold])
        net = detector.TestNet(config, weights)
        net.run(image_blobs([prepare_image(image, config)], config, train=False))
        outputs.append(net.fetch(output))
        scales.append([op.type for op in net.operators()].count("AffineChannel"))
    folded, plain = outputs
    assert scales[0] == 0 and scales[1] == 20
    assert not np.array_equal(folded, plain)
    assert np.linalg.norm(folded - plain) <= 1e-5 * np.linalg.norm(plain)
