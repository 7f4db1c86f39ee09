"""Libra R-CNN's operators as stock ones, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron_ext.deployment.net_writer import NetWriter
from detectron_ext.deployment.stock_operators import expand
from detectron_ext.ops import reference

_SIDES = st.tuples(st.integers(1, 13), st.integers(1, 13))


def _run(operator, blobs, outputs=None):
    """The expanded operator's outputs, or those of these names."""
    outputs = list(operator.output) if outputs is None else outputs
    workspace.ResetWorkspace()
    writer = NetWriter()
    expand(writer, operator, lambda name: blobs[name].shape, custom=False)
    net, init_net = writer.nets("expanded", list(blobs), outputs)
    workspace.RunNetOnce(init_net)
    for name, value in blobs.items():
        workspace.FeedBlob(name, value)
    workspace.RunNetOnce(net)
    return [workspace.FetchBlob(name) for name in outputs]


def _random(*shape):
    return np.random.RandomState(sum(shape)).normal(size=shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(_SIDES, min_size=2, max_size=4), data=st.data())
def test_the_stock_pyramid_equals_the_definition(sizes, data):
    refine_level = data.draw(st.integers(0, len(sizes) - 1))
    levels = {f"f{i}": _random(2, 3, *size) for i, size in enumerate(sizes)}
    balanced = _random(2, 3, *sizes[refine_level])
    values = list(levels.values())
    gather = core.CreateOperator(
        "BalancedPyramidGather", list(levels), ["b"], refine_level=refine_level
    )
    (found,) = _run(gather, levels)
    expected = reference.balanced_pyramid_gather(values, refine_level=refine_level)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    outputs = [f"g{i}" for i in range(len(sizes))]
    scatter = core.CreateOperator(
        "BalancedPyramidScatter", ["b", *levels], outputs, refine_level=refine_level
    )
    expected = reference.balanced_pyramid_scatter(balanced, values, refine_level=refine_level)
    for found, wanted in zip(_run(scatter, {"b": balanced, **levels}), expected):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_scale", [0, 1])
def test_stock_attention_equals_the_definition(use_scale):
    blobs = {name: _random(2, 5, 4, 3) * (i + 1) for i, name in enumerate(("theta", "phi", "g"))}
    operator = core.CreateOperator(
        "EmbeddedGaussianAttention", list(blobs), ["out"], use_scale=use_scale
    )
    (found,) = _run(operator, blobs)
    expected = reference.embedded_gaussian_attention(*blobs.values(), use_scale=use_scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_scale", [0, 1])
def test_the_stock_non_local_block_equals_the_definition(use_scale):
    shapes = [(2, 5, 4, 3), *[(6, 5, 1, 1), (6,)] * 3, (5, 6, 1, 1), (5,)]
    blobs = {f"in{i}": _random(*shape, i + 1)[..., 0] for i, shape in enumerate(shapes)}
    operator = core.CreateOperator(
        "NonLocalBlock", list(blobs), ["out", "averages", "log_sums"], use_scale=use_scale
    )
    (found,) = _run(operator, blobs, ["out"])
    expected = reference.non_local_block(*blobs.values(), use_scale=use_scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_stock_affine_channel_clip_equals_the_definition():
    operator = core.CreateOperator(
        "AffineChannelClip", ["x", "scale", "bias"], ["x"], min=0.0, max=0.5
    )
    blobs = {"x": _random(2, 5, 4, 3), "scale": np.float32([1, -2, 3, 0, 0.5])}
    blobs["bias"] = np.float32([0, 0.25, -1, 0.125, 9])
    (found,) = _run(operator, blobs)
    expected = reference.affine_channel_clip(*blobs.values(), min=0.0, max=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_stock_group_softmax_equals_the_definition():
    operator = core.CreateOperator("GroupSpatialSoftmax", ["x"], ["y"], num_classes=4)
    x = _random(2, 12, 3, 5)
    (found,) = _run(operator, {"x": x})
    np.testing.assert_allclose(found, reference.group_spatial_softmax(x, num_classes=4), rtol=1e-5)
