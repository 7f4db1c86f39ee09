"""The operations that the benchmarks count, and the peak that they compare with."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace

from detectron_ext import ops
from detectron_ext.benchmarks.operations import operations_of, peak_operations
from detectron_ext.ops import library
from detectron_ext.ops.library import native_library_loaded

library.load()
needs_native_library = pytest.mark.skipif(
    not native_library_loaded(), reason="the native operators are not built (make ops)"
)


def _counts(add, **inputs):
    """Return the operations of a net's operators with their gradients, by type."""
    workspace.ResetWorkspace()
    for name, value in inputs.items():
        workspace.FeedBlob(name, value.astype(np.float32))
    net = core.Net("counted")
    output = add(net)
    net.AddGradientOperators([output])
    workspace.RunNetOnce(net)
    return {operator.type: operations_of(operator) for operator in net.Proto().op}


def test_a_fully_connected_layer():
    counts = _counts(
        lambda net: net.FC(["x", "w", "b"], "y"),
        x=np.ones((5, 7)), w=np.ones((3, 7)), b=np.ones(3),
    )  # fmt: skip
    assert counts["FC"] == 2 * 5 * 7 * 3
    assert counts["FCGradient"] == 2 * counts["FC"]


def test_a_convolution():
    counts = _counts(
        lambda net: net.Conv(["x", "w", "b"], "y", kernel=3, pad=1, stride=2),
        x=np.ones((2, 4, 8, 6)), w=np.ones((5, 4, 3, 3)), b=np.ones(5),
    )  # fmt: skip
    assert counts["Conv"] == 2 * (2 * 4 * 3) * 5 * 4 * 9
    assert counts["ConvGradient"] == 2 * counts["Conv"]


@needs_native_library
def test_attention():
    counts = _counts(
        lambda net: ops.embedded_gaussian_attention(net, "theta", "phi", "g", "y"),
        theta=np.ones((2, 3, 4, 5)), phi=np.ones((2, 3, 4, 5)), g=np.ones((2, 3, 4, 5)),
    )  # fmt: skip
    assert counts["EmbeddedGaussianAttention"] == 2 * 2 * 20**2 * (3 + 3)
    gradient = counts["EmbeddedGaussianAttentionGradient"]
    assert gradient == 2 * counts["EmbeddedGaussianAttention"]


@needs_native_library
def test_the_peak_is_that_of_a_processor():
    # One core of any processor since 2010 does more than 2, one of today less than 1,000.
    assert 2e9 < peak_operations() < 1e12 * 64
