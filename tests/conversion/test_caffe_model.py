"""Caffe's weights, from a file encoded here by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from squares import REPOSITORY

from detectron_ext.conversion.caffe_model import blob_name, convert_caffe_model, unrecognised
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import WeightsError

_DEFINITION = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn_conv1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale_conv1" type: "Scale" bottom: "conv1" top: "conv1"
        scale_param { bias_term: true } }
layer { name: "res2a_branch1" type: "Convolution" bottom: "conv1" top: "res2a_branch1"
        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
layer { name: "bn2a_branch1" type: "BatchNorm" bottom: "res2a_branch1" top: "res2a_branch1" }
layer { name: "fc1000" type: "InnerProduct" bottom: "res2a_branch1" top: "fc1000"
        inner_product_param { num_output: 5 } }
"""


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number, payload):
    """A field of bytes in the encoding of protocol buffers."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _layer(name, kind, *arrays):
    parts = [_field(1, name.encode()), _field(2, kind.encode())]
    for array in arrays:
        shape = _field(1, b"".join(map(_varint, array.shape)))
        parts.append(_field(7, _field(7, shape) + _field(5, array.astype("<f4").tobytes())))
    return _field(100, b"".join(parts))


@pytest.fixture
def arrays():
    rng = np.random.RandomState(0)
    shapes = {
        "conv1": (4, 3, 3, 3), "mean": (4,), "variance": (4,), "gamma": (4,), "beta": (4,),
        "branch": (2, 4, 1, 1), "branch_mean": (2,), "branch_variance": (2,),
        "fc": (5, 72), "fc_bias": (5,),
    }  # fmt: skip
    return {name: rng.uniform(0.5, 2, shape).astype("f") for name, shape in shapes.items()}


@pytest.fixture
def files(tmp_path, arrays):
    factor = np.float32([4])
    layers = [
        _layer("conv1", "Convolution", arrays["conv1"]),
        _layer("bn_conv1", "BatchNorm", 4 * arrays["mean"], 4 * arrays["variance"], factor),
        _layer("scale_conv1", "Scale", arrays["gamma"], arrays["beta"]),
        _layer("res2a_branch1", "Convolution", arrays["branch"]),
        _layer("bn2a_branch1", "BatchNorm", 4 * arrays["branch_mean"],
               4 * arrays["branch_variance"], factor),
        _layer("fc1000", "InnerProduct", arrays["fc"], arrays["fc_bias"]),
    ]  # fmt: skip
    (tmp_path / "net.prototxt").write_text(_DEFINITION)
    (tmp_path / "net.caffemodel").write_bytes(b"".join(layers))
    return [str(tmp_path / name) for name in ("net.prototxt", "net.caffemodel", "net.pkl")]


def test_weights_get_names_of_detectron_and_frozen_batch_norm(files, arrays):
    names = convert_caffe_model(*files)
    blobs = read_weights(files[2]).blobs
    assert names == sorted(blobs) == [
        "conv1_w", "fc1000_b", "fc1000_w", "res2_0_branch1_bn_b", "res2_0_branch1_bn_s",
        "res2_0_branch1_w", "res_conv1_bn_b", "res_conv1_bn_s",
    ]  # fmt: skip
    for name, array in (("conv1_w", "conv1"), ("fc1000_w", "fc"), ("fc1000_b", "fc_bias")):
        np.testing.assert_array_equal(blobs[name], arrays[array])
    deviation = np.sqrt(arrays["variance"] + 1e-5)
    x = np.float32([[1], [-3]])
    expected = (x - arrays["mean"]) / deviation * arrays["gamma"] + arrays["beta"]
    found = x * blobs["res_conv1_bn_s"] + blobs["res_conv1_bn_b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    expected = (x - arrays["branch_mean"]) / np.sqrt(arrays["branch_variance"] + 1e-5)
    found = x * blobs["res2_0_branch1_bn_s"] + blobs["res2_0_branch1_bn_b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_blobs_that_no_body_reads_are_listed():
    known = ["conv1_w", "res_conv1_bn_s", "res2_0_branch1_bn_b", "res4_22_branch2c_w", "fc1000_b"]
    unknown = ["conv_stage0_block0_branch2a_w", "bn_conv1_bn_s", "res6_0_branch2a_w"]
    assert unrecognised(known + unknown) == unknown


def test_tool_warns_of_names_that_are_not_recognised(files):
    for path in files[:2]:
        _replace(path, b"res2a_branch1", b"stage0_branch")
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "pickle_caffe_blobs.py"),
         "--prototxt", files[0], "--caffemodel", files[1], "--output", files[2]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning: no body reads 1 of 8 blobs" in done.stderr
    assert "stage0_branch_w" in done.stderr and "nothing in this file" not in done.stderr


def _replace(path, old, new):
    with open(path, "rb") as file:
        content = file.read()
    assert old in content
    with open(path, "wb") as file:
        file.write(content.replace(old, new))


def test_a_scale_that_belongs_to_no_batch_norm_is_refused(files):
    for path in files[:2]:
        _replace(path, b"scale_conv1", b"gamma_conv1")
    with pytest.raises(WeightsError, match="Scale layer gamma_conv1 belongs to no BatchNorm"):
        convert_caffe_model(*files)


def test_a_scale_layer_without_bias_is_used(files, arrays):
    _replace(files[0], b"bias_term: true", b"bias_term: false")
    with_bias = _layer("scale_conv1", "Scale", arrays["gamma"], arrays["beta"])
    _replace(files[1], with_bias, _layer("scale_conv1", "Scale", arrays["gamma"]))
    convert_caffe_model(*files)
    scale = read_weights(files[2]).blobs["res_conv1_bn_s"]
    expected = arrays["gamma"] / np.sqrt(arrays["variance"] + 1e-5)
    np.testing.assert_allclose(scale, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "layer, name",
    [
        ("res2a_branch1", "res2_0_branch1"),
        ("res4b11_branch2c", "res4_11_branch2c"),
        ("res4b_branch2c", "res4_1_branch2c"),
        ("res5c", "res5_2"),
        ("res_conv1", "res_conv1"),
        ("fc1000", "fc1000"),
    ],
)
def test_layers_get_the_names_of_detectron(layer, name):
    assert blob_name(layer) == name


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("content", [None, b"", b"no network", b"\xff\xfe\x00"])
def test_other_files_are_refused_in_one_line(files, place, content):
    os.remove(files[place])
    if content is not None:
        with open(files[place], "wb") as file:
            file.write(content)
    with pytest.raises(WeightsError) as caught:
        convert_caffe_model(*files)
    assert files[place] in str(caught.value)
    assert not os.path.exists(files[2])
