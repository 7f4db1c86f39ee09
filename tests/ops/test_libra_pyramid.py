"""The native balanced pyramid and attention: numbers, gradients, edges, memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libra_check import check
from native_runner import assert_close, needs_native, normal, run_operator, run_with_gradient
from torch_peer import needs_recent_torch

from detectron_ext.ops import reference
from detectron_ext.ops.library import NATIVE_LIBRARY

pytestmark = needs_native

# Not every Hypothesis that a Python of 3.7 to 3.9 gets takes examples of this size for small.
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
sizes = st.integers(1, 33)
seeds = st.integers(0, 2**31 - 1)


@st.composite
def pyramids(draw):
    """Levels of any sizes, finest first by name only, and a refine level."""
    count = draw(st.integers(2, 8))
    random = np.random.RandomState(draw(seeds))
    n, channels = draw(st.integers(1, 2)), draw(st.integers(1, 11))
    levels = [normal(random, n, channels, draw(sizes), draw(sizes)) for _ in range(count)]
    if draw(st.booleans()):  # ties
        levels = [np.round(level) for level in levels]
    return levels, draw(st.integers(0, count - 1)), random


@few
@given(pyramids())
def test_gather_equals_the_definition_for_any_pyramid(pyramid):
    levels, refine_level, _ = pyramid
    check("BalancedPyramidGather", levels, refine_level=refine_level)


@few
@given(pyramids())
def test_scatter_equals_the_definition_for_any_pyramid(pyramid):
    levels, refine_level, random = pyramid
    balanced = np.round(2 * normal(random, *levels[refine_level].shape)) / 2
    check("BalancedPyramidScatter", [balanced, *levels], refine_level=refine_level)


def pool_with_torch(x, size, d_y):
    x = torch.tensor(x, requires_grad=True)
    y = functional.adaptive_max_pool2d(x, size)
    y.backward(torch.tensor(d_y))
    return y.detach().numpy(), x.grad.numpy()


@needs_recent_torch
@pytest.mark.parametrize(
    ("size", "pooled"),
    [
        ((8, 12), (4, 6)),
        ((9, 13), (4, 6)),
        ((8, 13), (4, 6)),
        ((50, 84), (13, 21)),
        ((3, 4), (5, 9)),
    ],
)
@pytest.mark.parametrize("values", ["ties", "nans", "infinities"])
def test_pooling_picks_the_maximum_that_pytorch_picks(size, pooled, values):
    random = np.random.RandomState(0)
    x = random.randint(0, 3, (2, 3, *size)).astype(np.float32)
    if values == "nans":
        x[random.uniform(size=x.shape) < 0.2] = np.nan
    elif values == "infinities":
        x = np.where(x == 0, -np.inf, x).astype(np.float32)
        x[0] = -np.inf
    d_mean = normal(random, 2, 3, *pooled)
    expected, d_x = pool_with_torch(x, pooled, d_mean / 2)

    coarse = np.zeros((2, 3, *pooled), np.float32)
    (mean,), gradients = run_with_gradient(
        "BalancedPyramidGather", [x, coarse], d_mean, refine_level=1
    )
    assert np.array_equal(2 * mean, expected, equal_nan=True)
    assert_close(gradients[0], d_x, 1e-6)


def test_pyramids_without_images_give_empty_outputs():
    levels = [np.zeros((0, 3, size, size), np.float32) for size in (4, 2)]
    (mean,), gradients = run_with_gradient("BalancedPyramidGather", levels, refine_level=0)
    assert mean.shape == (0, 3, 4, 4)
    assert gradients[1].shape == (0, 3, 2, 2)
    scattered = run_operator("BalancedPyramidScatter", [levels[0], *levels], 2, refine_level=0)
    assert scattered[1].shape == (0, 3, 2, 2)


# --- Attention


@few
@given(
    seed=seeds,
    n=st.integers(1, 2),
    channels=st.integers(1, 70),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    use_scale=st.booleans(),
)
def test_attention_equals_the_definition_for_any_shape(seed, n, channels, height, width, use_scale):
    random = np.random.RandomState(seed)
    theta, phi, g = (normal(random, n, channels, height, width) for _ in range(3))
    theta /= np.float32(np.sqrt(channels))  # scores of unit size
    check("EmbeddedGaussianAttention", [theta, phi, g], use_scale=use_scale)


@pytest.mark.parametrize("positions", [(19, 31), (16, 32)])
def test_attention_over_several_blocks_of_keys_equals_the_definition(positions):
    random = np.random.RandomState(0)
    theta, phi, g = (normal(random, 1, 40, *positions) for _ in range(3))
    check("EmbeddedGaussianAttention", [theta, phi, g], use_scale=True)


def test_attention_of_large_scores_does_not_overflow():
    random = np.random.RandomState(0)
    theta, phi, g = (normal(random, 1, 4, 20, 20) for _ in range(3))
    theta *= 300
    (out,), gradients = run_with_gradient("EmbeddedGaussianAttention", [theta, phi, g])
    assert_close(out, reference.embedded_gaussian_attention(theta, phi, g), 1e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_attention_gradient_with_and_without_log_sums():
    random = np.random.RandomState(0)
    inputs = [0.3 * normal(random, 2, 12, 9, 13) for _ in range(3)]
    d_output = normal(random, *inputs[0].shape)
    one, one_gradients = run_with_gradient("EmbeddedGaussianAttention", inputs, d_output)
    two, two_gradients = run_with_gradient("EmbeddedGaussianAttention", inputs, d_output, outputs=2)
    assert np.array_equal(one[0], two[0])
    assert all(np.array_equal(one_gradients[i], two_gradients[i]) for i in range(3))
    theta, phi = (x.reshape(2, 12, -1).astype(np.float64) for x in inputs[:2])
    scores = np.einsum("nci,ncj->nij", theta, phi)
    assert_close(two[1], np.log(np.exp(scores).sum(axis=2)))


def test_attention_without_images_or_positions_is_empty():
    for shape in ((0, 4, 3, 3), (2, 4, 0, 3)):
        empty = np.zeros(shape, np.float32)
        outputs, gradients = run_with_gradient("EmbeddedGaussianAttention", [empty] * 3, outputs=2)
        assert outputs[0].shape == shape
        assert all(gradients[i].shape == shape for i in range(3))


MEMORY_SCRIPT = """
import re
import sys

import numpy as np
from caffe2.python import core, dyndep, workspace

dyndep.InitOpsLibrary(sys.argv[1])
for name in ("theta", "phi", "g", "out", "d_theta", "d_phi", "d_g"):
    workspace.FeedBlob(name, np.ones((1, 8, 64, 128), np.float32))

def peak_kibibytes():
    # getrusage's figure would start at that of the process this one was forked from.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))

before = peak_kibibytes()
for type, inputs, outputs in (
    ("EmbeddedGaussianAttention", ["theta", "phi", "g"], ["out", "log_sums"]),
    (
        "EmbeddedGaussianAttentionGradient",
        ["theta", "phi", "g", "out", "out", "log_sums"],
        ["d_theta", "d_phi", "d_g"],
    ),
):
    workspace.RunOperatorOnce(core.CreateOperator(type, inputs, outputs))
print(peak_kibibytes() - before)
"""


def test_attention_does_not_store_the_matrix_of_scores():
    # That matrix, of 8192 x 8192 floats, is 256 MiB.
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(NATIVE_LIBRARY)],
        stdout=subprocess.PIPE,
        check=True,
    )
    kibibytes = int(run.stdout)
    assert 0 < kibibytes < 64 * 1024
