"""NegativeGradientMass: what is counted, edges, what is refused, and the CUDA kernel."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_memory import unwritten
from native_runner import assert_close, needs_native, normal, run_operator

from detectron_ext import ops
from detectron_ext.kernel_benchmark.kernels import KernelError
from detectron_ext.ops import reference
from detectron_ext.ops.python_operators import python_operator

MASS = "NegativeGradientMass"
BACKENDS = [pytest.param("native", marks=needs_native), "python"]
NAN, INFINITY = float("nan"), float("inf")


def run(backend, logits, bins, **arguments):
    arguments = {"gamma": 2.0, "alpha": 0.25, "num_classes": 1, "num_bins": 3, **arguments}
    if backend == "native":
        return run_operator(MASS, [logits, bins], 1, **arguments)[0]
    return np.float32(python_operator(MASS).forward([logits, bins], **arguments)[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_a_mass_is_the_gradient_that_the_loss_gives_its_negatives(backend, gamma):
    """With labels that the bins do not tell: the bins alone decide what is counted."""
    random = np.random.RandomState(0)
    logits = 3 * normal(random, 2, 12, 7, 5)
    bins = random.randint(0, 4, (2, 3, 7, 5)).astype(np.int32)
    named = {"gamma": gamma, "alpha": 0.3, "num_classes": 4}
    masses = run(backend, logits, bins, **named)
    for bin in (1, 2, 3):
        labels = np.where(bins == bin, 0, -1)
        slopes = reference.sigmoid_focal_loss_gradient(logits, labels, 1.0, 1.0, **named)
        np.testing.assert_allclose(masses[bin - 1], np.abs(slopes).sum(), rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_anchors_and_without_negatives_all_masses_are_0(backend):
    for shape in [(0, 3, 4, 4), (2, 0, 4, 4), (1, 2, 0, 5)]:
        n, anchors, height, width = shape
        logits = np.ones((n, anchors, height, width), np.float32)
        masses = run(backend, logits, np.zeros(shape, np.int32))
        np.testing.assert_array_equal(masses, [0, 0, 0])
    masses = run(backend, np.ones((1, 2, 3, 3), np.float32), np.zeros((1, 2, 3, 3), np.int32))
    np.testing.assert_array_equal(masses, [0, 0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_anchors_that_are_not_counted_may_have_any_logit(backend):
    logits = np.float32([NAN, INFINITY, 1, -INFINITY, 2]).reshape(1, 1, 1, 5)
    bins = np.int32([0, 0, 3, 0, 1]).reshape(1, 1, 1, 5)
    expected = reference.negative_gradient_mass(
        np.where(bins == 0, 0, logits), bins, num_classes=1, num_bins=3
    )
    assert expected[1] == 0 and expected.min(initial=1, where=[True, False, True]) > 0
    np.testing.assert_allclose(run(backend, logits, bins), expected, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_logits_give_finite_masses_and_nan_gives_nan(backend):
    logits = np.float32([-1e4, -100, 100, 1e4, NAN]).reshape(1, 1, 1, 5)
    bins = np.int32([1, 1, 2, 2, 3]).reshape(1, 1, 1, 5)
    masses = run(backend, logits, bins)
    np.testing.assert_allclose(masses, [0, 1.5, NAN], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_small_gradients_of_many_anchors_keep_their_digits(backend):
    """As at the start of training, where all 200,000 negatives of a level are equally easy."""
    logits = np.full((1, 6, 200, 200), -4.6, np.float32)
    bins = np.ones((1, 2, 200, 200), np.int32)
    named = {"num_classes": 3, "num_bins": 1}
    expected = reference.negative_gradient_mass(logits, bins, **named)
    np.testing.assert_allclose(run(backend, logits, bins, **named), expected, rtol=2e-6)


ZEROS = np.zeros((1, 6, 2, 3), np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("logits", "bins", "part"),
    [
        (ZEROS[0], np.zeros((1, 2, 2, 3), np.int32), "6, 2, 3"),
        (ZEROS, np.zeros((2, 2, 3), np.int32), "2, 2, 3"),
        (ZEROS, np.zeros((1, 3, 2, 3), np.int32), "1, 3, 2, 3"),
        (ZEROS, np.zeros((1, 2, 3, 2), np.int32), "1, 2, 3, 2"),
        (ZEROS, np.full((1, 2, 2, 3), 6, np.int32), "num_bins, 5"),
        (ZEROS, np.full((1, 2, 2, 3), -1, np.int32), "num_bins, 5"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(backend, logits, bins, part):
    with pytest.raises((RuntimeError, ValueError), match=f"(?s){MASS}: .*{part}"):
        run(backend, logits, bins, num_classes=3, num_bins=5)


@pytest.mark.parametrize(
    "arguments",
    [{"gamma": -1.0}, {"gamma": NAN}, {"alpha": 1.5}, {"num_classes": 0}, {"num_bins": 0},
     {"num_bins": 4097}, {"num_bins": 3.0}],
)  # fmt: skip
def test_an_argument_out_of_range_is_refused_and_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        ops.negative_gradient_mass(core.Net("n"), "a", "b", "o", **arguments)


@needs_native
@pytest.mark.parametrize(
    "arguments",
    [{"gamma": -1.0}, {"alpha": 1.5}, {"num_classes": 0}, {"num_bins": 0}, {"num_bins": 4097}],
)
def test_the_native_operator_refuses_bad_arguments(arguments):
    with pytest.raises(RuntimeError, match=f"{MASS}: {next(iter(arguments))} is"):
        run_operator(MASS, [ZEROS, ZEROS], 1, **arguments)


@needs_native
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), classes=st.integers(1, 5), bins=st.integers(1, 20))
def test_native_and_python_give_the_same_masses(seed, classes, bins):
    random = np.random.RandomState(seed)
    height, width = random.randint(1, 40, 2)
    logits = 4 * normal(random, 2, 2 * classes, height, width)
    numbers = random.randint(0, bins + 1, (2, 2, height, width)).astype(np.int32)
    named = {"num_classes": classes, "num_bins": bins}
    native, python = (run(backend, logits, numbers, **named) for backend in ("native", "python"))
    np.testing.assert_allclose(native, python, rtol=1e-5, atol=1e-7)


# --- The CUDA kernel, run on the CPU by kernels/cuda_emulation.h


def on_cuda(kernels, logits, bins, classes, num_bins, gamma=2.0):
    masses = unwritten(num_bins)
    scratch = np.full(kernels.size("gradient_mass_scratch", num_bins), NAN)
    sizes = [int(np.prod(bins.shape[:2])), classes, int(np.prod(bins.shape[2:]))]
    kernels("negative_gradient_mass", *sizes, logits, bins, num_bins, gamma, 0.3, scratch, masses)
    return masses


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize(
    ("classes", "height", "width", "num_bins"),
    # A block of threads has the sums of 8 bins.
    [(4, 31, 29, 3), (1, 1, 1, 1), (2, 9, 8, 8), (3, 17, 19, 9), (2, 30, 40, 25)],
)
def test_cuda_masses_equal_the_definition(kernels, gamma, classes, height, width, num_bins):
    random = np.random.RandomState(0)
    logits = 4 * normal(random, 2, 3 * classes, height, width)
    bins = random.randint(0, num_bins + 1, (2, 3, height, width)).astype(np.int32)
    bins.flat[0] = num_bins
    named = {"gamma": gamma, "alpha": 0.3, "num_classes": classes, "num_bins": num_bins}
    masses = on_cuda(kernels, logits, bins, classes, num_bins, gamma)
    assert_close(masses, reference.negative_gradient_mass(logits, bins, **named))


def test_cuda_masses_without_anchors_are_0(kernels):
    empty = np.zeros((0, 3, 4, 4), np.float32)
    masses = on_cuda(kernels, empty, empty.astype(np.int32), 1, 3)
    np.testing.assert_array_equal(masses, [0, 0, 0])


def test_cuda_does_not_count_anchors_with_other_bins_or_none(kernels):
    logits = np.float32([1, NAN, NAN, NAN, NAN, 2]).reshape(1, 1, 1, 6)
    bins = np.int32([2, 0, -1, 4, -(2**31), 3]).reshape(1, 1, 1, 6)
    kept = np.where((bins < 0) | (bins > 3), 0, bins)
    expected = reference.negative_gradient_mass(
        np.where(kept == 0, 0, logits), kept, alpha=0.3, num_classes=1, num_bins=3
    )
    assert_close(on_cuda(kernels, logits, bins, 1, 3), expected)


def test_cuda_refuses_more_anchors_than_it_can_count(kernels):
    with pytest.raises(KernelError, match="too many anchors"):
        kernels("negative_gradient_mass", 2**31, 1, 1, None, None, 3, 2.0, 0.3, None, None)
