"""Damaged Caffe files, which crash OpenCV's parser or make it take memory, end in one line."""

from __future__ import annotations

import os

import numpy as np
import pytest
from test_caffe_model import _field, _layer, _varint

from detectron_ext.conversion import caffe_model
from detectron_ext.conversion.caffe_model import convert_caffe_model
from detectron_ext.errors import WeightsError

_DEFINITION = b"""
input: "data" input_dim: 1 input_dim: 8 input_dim: 1 input_dim: 1
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 4 } }
"""
_WEIGHTS = _layer("fc", "InnerProduct", np.ones((4, 8)), np.ones(4))


def _claimed_shape(*shape):
    """Weights whose blob has this shape and ten numbers."""
    sides = _field(7, _field(1, b"".join(map(_varint, shape))))
    blob = _field(7, sides + _field(5, bytes(40)))
    return _field(100, _field(1, b"fc") + _field(2, b"InnerProduct") + blob)


def _convert(folder, definition=_DEFINITION, weights=_WEIGHTS):
    paths = [str(folder / name) for name in ("net.prototxt", "net.caffemodel", "net.pkl")]
    for path, content in zip(paths, (definition, weights)):
        with open(path, "wb") as file:
            file.write(content)
    return convert_caffe_model(*paths)


@pytest.mark.parametrize(
    "definition, weights, expected",
    [
        (_DEFINITION.replace(b'"InnerP', b'"Inner\x80'), _WEIGHTS, "crashed (SIGSEGV)"),
        (_DEFINITION, _claimed_shape(30_000, 30_000), "Failed to allocate 3600000000 bytes"),
        (_DEFINITION + b"layer { " * 100_000, _WEIGHTS, "Failed to parse"),
    ],
    ids=["a byte of a type", "shape without numbers", "nested deeply"],
)
def test_a_damaged_file_ends_in_one_line(tmp_path, definition, weights, expected):
    with pytest.raises(WeightsError) as caught:
        _convert(tmp_path, definition, weights)
    assert expected in str(caught.value)
    assert str(tmp_path / "net.caffemodel") in str(caught.value)
    assert sorted(os.listdir(str(tmp_path))) == ["net.caffemodel", "net.prototxt"]


def test_a_parser_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(caffe_model, "_SECONDS", 0.01)
    with pytest.raises(WeightsError, match="OpenCV has not read them in 0 s"):
        _convert(tmp_path)


def test_large_weights_fit_the_limit_of_memory(tmp_path):
    definition = _DEFINITION.replace(b"dim: 8", b"dim: 1000").replace(b" 4 }", b" 9000 }")
    arrays = np.arange(9_000_000, dtype="f").reshape(9000, 1000), np.zeros(9000, "f")
    assert _convert(tmp_path, definition, _layer("fc", "InnerProduct", *arrays)) == ["fc_b", "fc_w"]
