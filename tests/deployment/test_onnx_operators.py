"""Each translated operator gives in onnxruntime what it gives in Caffe2."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace

from detectron_ext import ops

pytest.importorskip("onnx", reason="needs onnx (pip install onnx)")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="needs onnxruntime (pip install onnxruntime)"
)

from detectron_ext.deployment.to_onnx.graph import Graph  # noqa: E402
from detectron_ext.deployment.to_onnx.operators import Operator, translate  # noqa: E402

pytestmark = pytest.mark.skipif(
    not ops.native_library_loaded(), reason="needs the native operators (make ops)"
)


def _random(*shape, seed=0):
    return np.random.RandomState(seed + sum(shape)).normal(0, 1, shape).astype(np.float32)


def _both(kind, arrays, num_outputs=1, compared=None, **arguments):
    """Run an operator in Caffe2 and in onnxruntime; return both lists of outputs."""
    names = [f"in_{index}" for index in range(len(arrays))]
    outputs = [f"out_{index}" for index in range(num_outputs)]
    definition = core.CreateOperator(kind, names, outputs, **arguments)
    workspace.ResetWorkspace()
    for name, array in zip(names, arrays):
        workspace.FeedBlob(name, array)
    workspace.RunOperatorOnce(definition)
    compared = num_outputs if compared is None else compared
    expected = [workspace.FetchBlob(name) for name in outputs[:compared]]

    results = [f"result_{index}" for index in range(compared)]
    graph = Graph(results)
    inputs = [graph.input(name, array.dtype) for name, array in zip(names, arrays)]
    operator = Operator(definition, list(inputs), dict(enumerate(arrays)))
    values = [graph.output(value, name) for value, name in zip(translate(graph, operator), results)]
    model = graph.model(
        [(value, array.shape) for value, array in zip(inputs, arrays)],
        [(value, [None] * array.ndim) for value, array in zip(values, expected)],
        {},
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    read = {value.name for value in session.get_inputs()}
    feed = {name: array for name, array in zip(names, arrays) if name in read}
    return session.run(results, feed), expected


def _assert_close(pair):
    for found, expected in zip(*pair):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


_MAP = (2, 6, 7, 9)


@pytest.mark.parametrize(
    "kind, shapes, arguments",
    [
        ("Conv", [_MAP, (8, 6, 3, 3), (8,)], {"kernel": 3, "stride": 2, "pad": 1}),
        ("Conv", [_MAP, (6, 1, 5, 5)],
         {"kernel": 5, "stride": 2, "group": 6, "pad_t": 1, "pad_l": 1, "pad_b": 2, "pad_r": 2}),
        ("Conv", [_MAP, (8, 6, 3, 3)], {"kernel": 3, "pad": 2, "dilation": 2}),
        ("MaxPool", [_MAP], {"kernel": 3, "stride": 2, "pad": 1}),
        ("MaxPool", [_MAP], {"kernel": 1, "stride": 2}),
        ("AveragePool", [_MAP], {"kernel": 3}),
        ("AffineChannel", [_MAP, (6,), (6,)], {}),
        ("AffineChannelClip", [_MAP, (6,), (6,)], {"min": 0.0, "max": 1.0}),
        ("Clip", [_MAP], {"min": -0.5, "max": 0.5}),
        ("Clip", [_MAP], {"min": 0.0}),
        ("UpsampleNearest", [_MAP], {"scale": 2}),
        ("UpsampleNearest", [_MAP], {"scale": 3}),
        ("FC", [(5, 6, 2, 2), (4, 24), (4,)], {}),
        ("Softmax", [(5, 7)], {}),
        ("Sigmoid", [_MAP], {}),
        ("Relu", [_MAP], {}),
        ("Sum", [_MAP, _MAP, _MAP], {}),
        ("GroupSpatialSoftmax", [_MAP], {"num_classes": 3}),
        ("EmbeddedGaussianAttention", [_MAP] * 3, {"use_scale": 0}),
        ("EmbeddedGaussianAttention", [_MAP] * 3, {"use_scale": 1}),
    ],
)  # fmt: skip
def test_operator(kind, shapes, arguments):
    arrays = [_random(*shape, seed=index) for index, shape in enumerate(shapes)]
    _assert_close(_both(kind, arrays, **arguments))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups):
    arrays = [_random(*_MAP), _random(6), _random(6, seed=1)]
    _assert_close(_both("GroupNorm", arrays, 3, compared=1, group=groups, epsilon=1e-3))


@pytest.mark.parametrize("use_scale", [0, 1])
def test_non_local_block(use_scale):
    weights = [_random(3, 6, 1, 1, seed=part) for part in range(3)] + [_random(6, 3, 1, 1)]
    biases = [_random(len(weight), seed=9) for weight in weights]
    arrays = [_random(1, 6, 5, 8)] + [part for pair in zip(weights, biases) for part in pair]
    _assert_close(_both("NonLocalBlock", arrays, 3, compared=1, use_scale=use_scale))


# Sides that divide, sides that do not, and a level of one cell.
@pytest.mark.parametrize("sides", [[(8, 16), (4, 8), (2, 4), (1, 2)], [(7, 13), (4, 7), (2, 3)],
                                   [(9, 5), (5, 3), (1, 1)]])  # fmt: skip
@pytest.mark.parametrize("refine_level", [0, 1, 2])
def test_balanced_pyramid(sides, refine_level):
    levels = [_random(1, 4, *side) for side in sides]
    _assert_close(_both("BalancedPyramidGather", levels, refine_level=refine_level))
    balanced = _random(1, 4, *sides[refine_level], seed=7)
    _assert_close(
        _both("BalancedPyramidScatter", [balanced, *levels], len(levels), refine_level=refine_level)
    )


def _rois(count, size=60.0):
    rng = np.random.RandomState(3)
    corners = np.sort(rng.uniform(-8, size + 8, (count, 2, 2)), axis=1).reshape(count, 4)
    return np.insert(corners, 0, 0, axis=1).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("ratio, aligned", [(2, 0), (0, 0), (2, 1)])
def test_roi_align(count, ratio, aligned):
    _assert_close(
        _both(
            "RoIAlign", [_random(1, 3, 15, 17), _rois(count)], pooled_h=7, pooled_w=7,
            spatial_scale=0.25, sampling_ratio=ratio, aligned=aligned,
        )
    )  # fmt: skip


def test_roi_max_pool():
    arrays = [_random(1, 3, 15, 17), np.maximum(_rois(9), 0)]
    _assert_close(
        _both("RoIPoolF", arrays, 2, compared=1, pooled_h=7, pooled_w=7, spatial_scale=0.25)
    )


@pytest.mark.parametrize("plus_one", [0, 1])
@pytest.mark.parametrize("most, boxes, overlap", [(50, 20, 0.7), (0, -1, 1.0), (400, 5, 0.3)])
def test_proposals(plus_one, most, boxes, overlap):
    anchors = np.array([[-8, -8, 23, 23], [-16, 0, 31, 15], [-40, -40, 55, 55]], np.float32)
    arrays = [
        _random(1, 3, 7, 9), _random(1, 12, 7, 9) * 0.3, np.array([[110, 140, 1.5]], "f"), anchors
    ]  # fmt: skip
    pair = _both(
        "GenerateProposals", arrays, 2, spatial_scale=1 / 16, pre_nms_topN=most,
        post_nms_topN=boxes, nms_thresh=overlap, min_size=4.0, legacy_plus_one=plus_one,
    )  # fmt: skip
    np.testing.assert_allclose(pair[0][0], pair[1][0], atol=1e-3)
    np.testing.assert_array_equal(pair[0][1], pair[1][1])
