"""The native non-local block: numbers, gradients, edges, memory, and the same block as layers."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace
from hypothesis import given, settings
from hypothesis import strategies as st
from libra_check import check
from map_cases import non_local_inputs
from native_runner import assert_close, needs_native, normal, run_with_gradient
from operator_cases import add_front_end

from detectron_ext.ops import library, reference
from detectron_ext.ops.library import NATIVE_LIBRARY

pytestmark = needs_native

BLOCK = "NonLocalBlock"
PHI_B = 4


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    n=st.integers(1, 2),
    # With fewer channels some sums cancel nearly. Their relative errors would be large.
    channels=st.integers(8, 70),
    embedded=st.integers(8, 40),
    height=st.integers(2, 24),
    width=st.integers(3, 24),
)
def test_any_shape_equals_the_definition(seed, n, channels, embedded, height, width):
    random = np.random.RandomState(seed)
    inputs = non_local_inputs(random, (n, channels, height, width), embedded)
    check(BLOCK, inputs, use_scale=1)


@pytest.mark.parametrize("embedded", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 1, 2), (1, 2, 3, 1), (1, 3, 9, 11)])
def test_few_positions_or_channels_equal_the_definition(shape, embedded):
    # Some gradients cancel nearly, so that only rounding is left: absolute errors are compared.
    random = np.random.RandomState(0)
    inputs = non_local_inputs(random, shape, embedded)
    d_y = normal(random, *shape)
    (y, *_), gradients = run_with_gradient(BLOCK, inputs, d_y, outputs=3)
    assert_close(y, reference.non_local_block(*inputs))
    for i, wanted in enumerate(reference.non_local_block_gradient(*inputs, d_y)):
        np.testing.assert_allclose(gradients[i], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", [(19, 31), (16, 24)])
def test_several_bands_of_keys_equal_the_definition(positions):
    inputs = non_local_inputs(np.random.RandomState(0), (2, 40, *positions), 40)
    check(BLOCK, inputs, use_scale=1)


def test_the_bias_of_phi_changes_nothing_and_has_no_gradient():
    inputs = non_local_inputs(np.random.RandomState(0), (1, 6, 7, 9), 5)
    (before, *_), gradients = run_with_gradient(BLOCK, inputs, outputs=3)
    inputs[PHI_B] = inputs[PHI_B] + 3
    (after, *_), _ = run_with_gradient(BLOCK, inputs, outputs=3)
    assert np.array_equal(before, after)
    assert gradients[PHI_B].shape == (5,)
    assert not gradients[PHI_B].any()
    wanted = reference.non_local_block_gradient(*inputs, np.ones_like(inputs[0]))[PHI_B]
    assert np.abs(wanted).max() < 1e-12


def test_zero_output_filters_make_it_the_identity():
    inputs = non_local_inputs(np.random.RandomState(0), (2, 6, 7, 9), 6)
    inputs[7][:], inputs[8][:] = 0, 0
    d_y = normal(np.random.RandomState(1), *inputs[0].shape)
    (y, *_), gradients = run_with_gradient(BLOCK, inputs, d_y, outputs=3)
    assert np.array_equal(y, inputs[0])
    assert np.array_equal(gradients[0], d_y)
    assert gradients[7].any()
    assert not gradients[1].any()


def test_large_scores_do_not_overflow():
    inputs = non_local_inputs(np.random.RandomState(0), (1, 4, 20, 20), 4)
    inputs[1] *= 300
    (y, *_), gradients = run_with_gradient(BLOCK, inputs, outputs=3)
    assert_close(y, reference.non_local_block(*inputs), 1e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_no_images_or_positions_give_empty_outputs(shape):
    inputs = non_local_inputs(np.random.RandomState(0), shape, 3)
    outputs, gradients = run_with_gradient(BLOCK, inputs, outputs=3)
    assert [output.shape for output in outputs] == [shape, shape, (shape[0], shape[2] * shape[3])]
    assert all(gradients[i].shape == x.shape for i, x in enumerate(inputs))
    assert not any(gradient.any() for gradient in gradients.values())


def test_averages_and_log_sums_are_kept_for_the_gradient():
    inputs = non_local_inputs(np.random.RandomState(0), (1, 6, 4, 5), 5)
    x, theta_w, theta_b, phi_w = (np.float64(a).squeeze() for a in inputs[:4])
    x = x.reshape(6, -1)
    (_, averages, log_sums), _ = run_with_gradient(BLOCK, inputs, outputs=3)
    scores = (theta_w @ x + theta_b[:, None]).T @ (phi_w @ x)
    sums = np.exp(scores).sum(axis=1, keepdims=True)
    assert_close(log_sums, np.log(sums).T)
    assert_close(averages.reshape(6, -1), x @ (np.exp(scores) / sums).T)


def _frontend_net():
    net = core.Net("block")
    return net, add_front_end(net, BLOCK, [f"input{i}" for i in range(9)])


def test_the_block_is_built_from_layers_on_cuda(monkeypatch):
    monkeypatch.setattr(library._State, "native_cuda", True)
    with core.DeviceScope(core.DeviceOption(caffe2_pb2.CUDA, 0)):
        net, (output,) = _frontend_net()
    assert [op.type for op in net.Proto().op] == [
        *["Conv"] * 3,
        "EmbeddedGaussianAttention",
        "Conv",
        "Sum",
    ]
    assert {op.engine for op in net.Proto().op if op.type == "Conv"} == {"CUDNN"}
    assert str(output) == "output"


def test_layers_give_the_same_output_and_gradients(monkeypatch):
    inputs = non_local_inputs(np.random.RandomState(0), (2, 12, 9, 11), 12)
    d_y = normal(np.random.RandomState(1), *inputs[0].shape)
    results = []
    for operators in (frozenset(), frozenset([BLOCK])):
        monkeypatch.setattr(
            library, "has_native", lambda operator, without=operators: operator not in without
        )
        workspace.ResetWorkspace()
        for i, array in enumerate(inputs):
            workspace.FeedBlob(f"input{i}", array)
        net, (output,) = _frontend_net()
        seeds = {output: net.AddExternalInput("d_y")}
        workspace.FeedBlob("d_y", d_y)
        gradients = net.AddGradientOperators(seeds)
        workspace.RunNetOnce(net)
        names = [output, *(gradients[f"input{i}"] for i in range(9) if i != PHI_B)]
        results.append([workspace.FetchBlob(str(name)) for name in names])
        assert len(net.Proto().op) == (2 if not operators else 12)
    for one, other in zip(*results):
        assert_close(one, other)


MEMORY_SCRIPT = """
import re
import sys

import numpy as np
from caffe2.python import core, dyndep, workspace

dyndep.InitOpsLibrary(sys.argv[1])
channels, height, width = 64, 64, 128
shapes = [(1, channels, height, width)] + [(channels, channels, 1, 1), (channels,)] * 4
names = [f"input{i}" for i in range(len(shapes))]
for name, shape in zip(names, shapes):
    workspace.FeedBlob(name, 0.1 * np.ones(shape, np.float32))
for name in ("y", "averages", "d_y", "d_input0"):
    workspace.FeedBlob(name, np.ones(shapes[0], np.float32))

def peak_kibibytes():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))

before = peak_kibibytes()
for type, inputs, outputs in (
    ("NonLocalBlock", names, ["y", "averages", "log_sums"]),
    (
        "NonLocalBlockGradient",
        [*names, "averages", "log_sums", "d_y"],
        [f"d_{name}" for name in names],
    ),
):
    workspace.RunOperatorOnce(core.CreateOperator(type, inputs, outputs))
print(peak_kibibytes() - before)
"""


def test_the_matrix_of_scores_and_the_embeddings_are_not_stored():
    # An address sanitizer would keep what is freed.
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0"
    # A map is 2 MiB, the matrix of 8192 x 8192 floats 256 MiB. The gradient takes three maps and
    # two bands of 192 rows of the matrix, of 6 MiB each.
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(NATIVE_LIBRARY)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "ASAN_OPTIONS": options},
    )
    assert 0 < int(run.stdout) < 32 * 1024
