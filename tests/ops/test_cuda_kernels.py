"""The CUDA kernels' arithmetic, run on the CPU by kernels/cuda_emulation.h: no GPU is needed."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from case_inputs import select_inputs
from native_runner import assert_close, normal

from detectron_ext.ops import reference

SOURCES = Path(__file__).resolve().parents[2] / "ops"
FLAGS = ["-std=c++14", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
FORMULAS = [(0.5, 1.5, 1.0, 0), (0.5, 1.5, 0.11, 1), (0.3, 0.9, 2.5, 0)]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The C interface of the kernels, compiled for the emulation."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("kernels") / "libkernels.so"
    sources = [str(path) for path in sorted(SOURCES.glob("kernels/*.cu"))]
    command = [compiler, *FLAGS, "-DDETECTRON_EXT_EMULATE_CUDA", f"-I{SOURCES}", "-shared"]
    subprocess.run([*command, "-x", "c++", *sources, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def call(kernels, name, *arguments):
    """Call a kernel: arrays become pointers, floats C floats, the stream is null."""
    converted = [_convert(argument) for argument in arguments]
    assert getattr(kernels, f"detectron_ext_{name}")(*converted, None) == 0


def _convert(argument):
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data)
    if isinstance(argument, list):
        return (ctypes.c_void_p * len(argument))(*[a.ctypes.data for a in argument])
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)


def unwritten(*shape, dtype=np.float32):
    return np.full(shape, 77, dtype)  # what is not written shows


def partial_sums(kernels):
    return np.full(kernels.detectron_ext_loss_partial_sums(), np.nan)


def named(formula):
    alpha, gamma, beta, mmdet = formula
    return {
        "alpha": alpha,
        "gamma": gamma,
        "beta": beta,
        "formula": "mmdet" if mmdet else "continuous",
    }


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize(("size", "offset"), [(0, 0), (5, 0), (40003, 0), (4001, 1)])
def test_balanced_l1(kernels, formula, size, offset):
    random = np.random.RandomState(0)
    # An offset of one float leaves the arrays unfit for loads of four.
    arrays = [normal(random, size + offset)[offset:] for _ in range(4)]
    loss, d_loss, d_prediction = unwritten(1), np.float32([1.7]), unwritten(size)
    call(kernels, "balanced_l1_loss", *formula, size, *arrays, 0.25, partial_sums(kernels), loss)
    call(kernels, "balanced_l1_gradient", *formula, size, *arrays, 0.25, d_loss, d_prediction)

    rows = max(size, 1)  # the definition divides by it
    arguments = dict(named(formula), scale=0.25 * rows)
    assert_close(loss, [reference.balanced_l1_loss(*arrays, **arguments)])
    expected = reference.balanced_l1_loss_gradient(*arrays, d_loss, **arguments)
    assert_close(d_prediction, expected)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_select_balanced_l1(kernels, formula, rows):
    inputs = select_inputs(np.random.RandomState(0), rows, (2, 12, 7, 5), 9.0)
    y_hat, y, places, fg_num = inputs
    if rows > 100:
        places[50:60] = places[3]  # in one chunk of rows and across two
        places[150:153] = places[3]
    shape = np.array(y_hat.shape, np.int64)
    selection = [shape, y_hat, rows, y, places, fg_num]
    loss, d_loss, d_y_hat = unwritten(1), np.float32([1.7]), unwritten(*y_hat.shape)
    call(kernels, "select_balanced_l1_loss", *formula, *selection, 3.0, partial_sums(kernels), loss)
    call(kernels, "select_balanced_l1_gradient", *formula, *selection, 3.0, d_loss, d_y_hat)

    arguments = dict(named(formula), scale=3.0)
    assert_close(loss, [reference.select_balanced_l1_loss(*inputs, **arguments)])
    expected = reference.select_balanced_l1_loss_gradient(*inputs, d_loss, **arguments)
    assert_close(d_y_hat, expected)


@pytest.mark.parametrize(
    ("bad", "first"),
    [({}, 300), ({7: (2, 0, 0, 0)}, 7), ({290: (0, 9, 0, 0), 30: (0, 0, 0, np.nan)}, 30)],
)
def test_finds_the_first_place_outside(kernels, bad, first):
    places = np.zeros((300, 4), np.float32)
    for row, place in bad.items():
        places[row] = place
    found = unwritten(1, dtype=np.int32)
    call(kernels, "find_outside", np.array([2, 12, 7, 5], np.int64), 300, places, found)
    assert found[0] == first


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_weighted_sigmoid_focal(kernels, gamma):
    random = np.random.RandomState(0)
    logits = 4 * normal(random, 2, 12, 31, 29)
    labels = random.randint(-1, 5, (2, 3, 31, 29)).astype(np.int32)
    weights = random.uniform(0, 2, labels.shape).astype(np.float32)
    fg_num, d_loss = np.float32([5]), np.float32([1.7])
    sizes, inputs = [6, 4, 31 * 29], [logits, labels, weights, fg_num]
    loss, d_logits = unwritten(1), unwritten(*logits.shape)
    name = "weighted_sigmoid_focal"
    sums = partial_sums(kernels)
    call(kernels, f"{name}_loss", *sizes, *inputs, gamma, 0.3, 0.5, sums, loss)
    call(kernels, f"{name}_gradient", *sizes, *inputs, gamma, 0.3, 0.5, d_loss, d_logits)

    arrays = [logits, labels, fg_num, weights]
    arguments = {"gamma": gamma, "alpha": 0.3, "scale": 0.5, "num_classes": 4}
    assert_close(loss, [reference.weighted_sigmoid_focal_loss(*arrays, **arguments)])
    expected = reference.weighted_sigmoid_focal_loss_gradient(*arrays, d_loss, **arguments)
    assert_close(d_logits, expected)


PYRAMIDS = [
    [(24, 40), (12, 20), (6, 10), (3, 5)],
    [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)],
    [(5, 9), (7, 3), (1, 1)],
    [(1, 1), (1, 1)],
    [(9, 7)] + [(k, 9 - k) for k in range(1, 8)],
]


@pytest.fixture(params=[(i, r) for i, p in enumerate(PYRAMIDS) for r in (0, 1, len(p) - 1)])
def pyramid(request):
    """Levels with ties, the refine level, and both as the kernels take them."""
    index, refine = request.param
    random = np.random.RandomState(0)
    sizes = PYRAMIDS[index]
    levels = [np.round(2 * normal(random, 3, 7, *size)) for size in sizes]
    return levels, refine, [21, len(sizes), refine, np.array(sizes, np.int64)]


def test_gather(kernels, pyramid):
    levels, refine, shape = pyramid
    mean = unwritten(*levels[refine].shape)
    d_mean = np.cos(np.arange(mean.size, dtype=np.float32)).reshape(mean.shape)
    d_levels = [unwritten(*level.shape) for level in levels]
    places = unwritten(kernels.detectron_ext_pyramid_places(*map(_convert, shape)), dtype=np.int32)
    call(kernels, "pyramid_gather", *shape, levels, mean)
    call(kernels, "pyramid_gather_gradient", *shape, levels, d_mean, d_levels, places)

    assert_close(mean, reference.balanced_pyramid_gather(levels, refine_level=refine))
    expected = reference.balanced_pyramid_gather_gradient(levels, d_mean, refine_level=refine)
    for actual, wanted in zip(d_levels, expected):
        assert_close(actual, wanted)


def test_scatter(kernels, pyramid):
    levels, refine, shape = pyramid
    balanced = np.round(levels[refine][::-1].copy() / 2)
    scattered = [unwritten(*level.shape) for level in levels]
    d_scattered = [np.cos(level) for level in levels]
    d_balanced = unwritten(*balanced.shape)
    places = unwritten(kernels.detectron_ext_pyramid_places(*map(_convert, shape)), dtype=np.int32)
    call(kernels, "pyramid_scatter", *shape, balanced, levels, scattered)
    call(kernels, "pyramid_scatter_gradient", *shape, balanced, d_scattered, d_balanced, places)

    expected = reference.balanced_pyramid_scatter(balanced, levels, refine_level=refine)
    for actual, wanted in zip(scattered, expected):
        assert_close(actual, wanted)
    expected = reference.balanced_pyramid_scatter_gradient(
        balanced, d_scattered, refine_level=refine
    )
    assert_close(d_balanced, expected[0])


@pytest.mark.parametrize(
    ("n", "channels", "height", "width"), [(1, 1, 1, 1), (2, 20, 7, 5), (1, 260, 9, 11)]
)
def test_attention(kernels, n, channels, height, width):
    random = np.random.RandomState(0)
    theta, phi, g, d_out = (normal(random, n, channels, height, width) for _ in range(4))
    scale = 1 / np.sqrt(channels)
    shape = [n, channels, height * width, float(scale)]
    out, *gradients = (unwritten(*g.shape) for _ in range(4))
    log_sums, row_dots = (unwritten(n, height * width) for _ in range(2))
    call(kernels, "attention", *shape, theta, phi, g, out, log_sums)
    call(
        kernels, "attention_gradient", *shape, theta, phi, g, out, log_sums, d_out, *gradients,
        row_dots,
    )  # fmt: skip

    assert_close(out, reference.embedded_gaussian_attention(theta, phi, g, use_scale=True))
    expected = reference.embedded_gaussian_attention_gradient(theta, phi, g, d_out, use_scale=True)
    # A softmax over one position has no gradient; there only rounding is left.
    for actual, wanted in zip(gradients, expected):
        if wanted.any():
            assert_close(actual, wanted)
        else:
            np.testing.assert_allclose(actual, 0, atol=1e-6)
