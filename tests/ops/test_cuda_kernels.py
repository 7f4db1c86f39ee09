"""The CUDA kernels' arithmetic, run on the CPU by kernels/cuda_emulation.h: no GPU is needed."""

from __future__ import annotations

import numpy as np
import pytest
from box_loss_cases import select_inputs
from kernel_memory import partial_sums, unwritten
from native_runner import assert_close, normal

from detectron_ext.kernel_benchmark.kernels import KernelError
from detectron_ext.ops import reference

FORMULAS = [(0.5, 1.5, 1.0, 0), (0.5, 1.5, 0.11, 1), (0.3, 0.9, 2.5, 0)]


def named(formula):
    alpha, gamma, beta, mmdet = formula
    return {
        "alpha": alpha,
        "gamma": gamma,
        "beta": beta,
        "formula": "mmdet" if mmdet else "continuous",
    }


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize(("size", "offset"), [(0, 0), (5, 0), (40000, 0), (4000, 1)])
def test_balanced_l1_equals_the_definition(kernels, formula, size, offset):
    random = np.random.RandomState(0)
    # With an offset of one float the kernels cannot load four numbers at once.
    arrays = [normal(random, size + offset)[offset:] for _ in range(4)]
    loss, d_loss, d_prediction = unwritten(1), np.float32([1.7]), unwritten(size)
    kernels("balanced_l1_loss", *formula, size, *arrays, 0.25, partial_sums(kernels), loss)
    kernels("balanced_l1_gradient", *formula, size, *arrays, 0.25, d_loss, d_prediction)

    rows = max(size, 1)  # the definition divides by it
    arguments = dict(named(formula), scale=0.25 * rows)
    assert_close(loss, [reference.balanced_l1_loss(*arrays, **arguments)])
    expected = reference.balanced_l1_loss_gradient(*arrays, d_loss, **arguments)
    assert_close(d_prediction, expected)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_select_balanced_l1_equals_the_definition(kernels, formula, rows):
    inputs = select_inputs(np.random.RandomState(0), rows, (2, 12, 7, 5), 9.0)
    y_hat, y, places, fg_num = inputs
    if rows > 100:
        places[50:60] = places[3]
        places[150] = places[3] + (0, 2, 0, 0) if places[3, 1] < 8 else places[3] - (0, 2, 0, 0)
    selection = [y_hat.shape, y_hat, rows, y, places, fg_num, None]
    loss, d_loss, d_y_hat = unwritten(1), np.float32([1.7]), unwritten(*y_hat.shape)
    kernels("select_balanced_l1_loss", *formula, *selection, 3.0, partial_sums(kernels), loss)
    scratch = unwritten(kernels.size("select_scratch", rows), dtype=np.int32)
    kernels("select_balanced_l1_gradient", *formula, *selection, 3.0, d_loss, d_y_hat, scratch)

    arguments = dict(named(formula), scale=3.0)
    assert_close(loss, [reference.select_balanced_l1_loss(*inputs, **arguments)])
    expected = reference.select_balanced_l1_loss_gradient(*inputs, d_loss, **arguments)
    assert_close(d_y_hat, expected)


def test_a_number_of_anchors_that_is_nan_makes_the_loss_nan(kernels):
    fg_num, loss = np.float32([np.nan]), unwritten(1)
    y_hat, y, places = np.ones((1, 4, 1, 1), np.float32), *np.zeros((2, 1, 4), np.float32)
    selection = [y_hat.shape, y_hat, 1, y, places, fg_num, None]
    kernels("select_balanced_l1_loss", *FORMULAS[0], *selection, 1.0, partial_sums(kernels), loss)
    assert np.isnan(loss).all()


@pytest.mark.parametrize(
    ("bad", "first"),
    [({}, 300), ({7: (2, 0, 0, 0)}, 7), ({290: (0, 9, 0, 0), 30: (0, 0, 0, np.nan)}, 30)],
)
def test_the_first_place_outside_the_map_is_found(kernels, bad, first):
    places = np.zeros((300, 4), np.float32)
    for row, place in bad.items():
        places[row] = place
    found = unwritten(1, dtype=np.int32)
    kernels("find_outside", (2, 12, 7, 5), 300, places, found)
    assert found[0] == first


PYRAMIDS = [
    [(24, 40), (12, 20), (6, 10), (3, 5)],
    [(8, 12), (4, 6), (2, 3), (1, 2)],
    [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)],
    [(5, 9), (7, 3), (1, 1)],
    [(1, 1), (1, 1)],
    [(9, 7)] + [(k, 9 - k) for k in range(1, 8)],
]


@pytest.fixture(params=[(i, r) for i, p in enumerate(PYRAMIDS) for r in (0, 1, len(p) - 1)])
def pyramid(request):
    """Return levels with equal elements, the refine level, and the kernels' arguments for both."""
    index, refine = request.param
    random = np.random.RandomState(0)
    sizes = PYRAMIDS[index]
    levels = [np.round(2 * normal(random, 3, 7, *size)) for size in sizes]
    return levels, refine, [21, len(sizes), refine, [side for size in sizes for side in size]]


def test_gather_equals_the_definition(kernels, pyramid):
    levels, refine, shape = pyramid
    mean = unwritten(*levels[refine].shape)
    d_mean = np.cos(np.arange(mean.size, dtype=np.float32)).reshape(mean.shape)
    d_levels = [unwritten(*level.shape) for level in levels]
    places = unwritten(kernels.size("gather_places", *shape), dtype=np.int32)
    kernels("pyramid_gather", *shape, levels, mean)
    kernels("pyramid_gather_gradient", *shape, levels, d_mean, d_levels, places)

    assert_close(mean, reference.balanced_pyramid_gather(levels, refine_level=refine))
    expected = reference.balanced_pyramid_gather_gradient(levels, d_mean, refine_level=refine)
    for actual, wanted in zip(d_levels, expected):
        assert_close(actual, wanted)


@pytest.mark.parametrize("sizes", [[(4, 8), (2, 4), (1, 2)], [(5, 9), (3, 4), (2, 2)]])
def test_a_nan_is_the_maximum_of_its_windows(kernels, sizes):
    """The NaN also gets their gradient, with and without a whole factor between the sizes."""
    random = np.random.RandomState(0)
    levels = [normal(random, 1, 6, *size) for size in sizes]
    levels[0][0, 1, 1, 2] = np.nan
    shape = [6, 3, 1, [side for size in sizes for side in size]]
    mean, d_mean = unwritten(*levels[1].shape), normal(random, *levels[1].shape)
    scattered = [unwritten(*level.shape) for level in levels]
    d_levels = [unwritten(*level.shape) for level in levels]
    places = unwritten(kernels.size("gather_places", *shape), dtype=np.int32)
    kernels("pyramid_gather", *shape, levels, mean)
    kernels("pyramid_gather_gradient", *shape, levels, d_mean, d_levels, places)
    np.testing.assert_allclose(
        mean, reference.balanced_pyramid_gather(levels, refine_level=1), rtol=1e-5
    )
    expected = reference.balanced_pyramid_gather_gradient(levels, d_mean, refine_level=1)
    for actual, wanted in zip(d_levels, expected):
        assert_close(actual, wanted)

    kernels("pyramid_scatter", *shape, mean, levels, scattered)
    expected = reference.balanced_pyramid_scatter(mean, levels, refine_level=1)
    for actual, wanted in zip(scattered, expected):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def test_scatter_without_some_output_gradients(kernels):
    random = np.random.RandomState(0)
    sizes, numbers = [(4, 6), (2, 3), (1, 2)], [4, 6, 2, 3, 1, 2]
    balanced = normal(random, 1, 5, 2, 3)
    d_scattered = [normal(random, 1, 5, *size) for size in sizes]
    for missing in range(3):
        given = [None if i == missing else d for i, d in enumerate(d_scattered)]
        counted = [np.zeros_like(d) if i == missing else d for i, d in enumerate(d_scattered)]
        shape = [5, 3, 1, numbers]
        places = unwritten(kernels.size("scatter_places", *shape, given), dtype=np.int32)
        # A place for each of the 2 maxima in 5 planes of the level after the refined one.
        assert len(places) == (0 if missing == 2 else 10)
        d_balanced = unwritten(*balanced.shape)
        kernels("pyramid_scatter_gradient", *shape, balanced, given, d_balanced, places)
        expected = reference.balanced_pyramid_scatter_gradient(balanced, counted, refine_level=1)
        assert_close(d_balanced, expected[0])


def test_levels_that_are_not_aligned_are_refused(kernels):
    levels = [np.zeros(17, np.float32)[1:].reshape(1, 1, 4, 4), np.zeros((1, 1, 2, 2), np.float32)]
    with pytest.raises(KernelError, match="a level is not aligned to 16 bytes"):
        kernels("pyramid_gather", 1, 2, 1, [4, 4, 2, 2], levels, unwritten(4))


def test_scatter_equals_the_definition(kernels, pyramid):
    levels, refine, shape = pyramid
    balanced = np.round(levels[refine][::-1].copy() / 2)
    scattered = [unwritten(*level.shape) for level in levels]
    d_scattered = [np.cos(level) for level in levels]
    d_balanced = unwritten(*balanced.shape)
    places = unwritten(kernels.size("scatter_places", *shape, d_scattered), dtype=np.int32)
    kernels("pyramid_scatter", *shape, balanced, levels, scattered)
    kernels("pyramid_scatter_gradient", *shape, balanced, d_scattered, d_balanced, places)

    expected = reference.balanced_pyramid_scatter(balanced, levels, refine_level=refine)
    for actual, wanted in zip(scattered, expected):
        assert_close(actual, wanted)
    expected = reference.balanced_pyramid_scatter_gradient(
        balanced, d_scattered, refine_level=refine
    )
    assert_close(d_balanced, expected[0])


FLOAT32, TENSOR_CORES = 1, 2


@pytest.mark.parametrize("products", [FLOAT32, TENSOR_CORES])
@pytest.mark.parametrize(
    ("n", "channels", "height", "width"),
    [
        (1, 1, 1, 1),
        (2, 20, 7, 5),
        (1, 260, 3, 2),  # more channels than a block of threads owns
        (1, 7, 10, 13),  # columns are split over blocks of threads
        (1, 9, 8, 20),  # the same in fours
    ],
)
def test_attention_equals_the_definition(kernels, products, n, channels, height, width):
    random = np.random.RandomState(0)
    theta, phi, g, d_out = (normal(random, n, channels, height, width) for _ in range(4))
    positions = height * width
    scratch = unwritten(kernels.size("attention_scratch", n, channels, positions))
    shape = [n, channels, positions, channels**-0.5, products]
    out, *gradients = (unwritten(*g.shape) for _ in range(4))
    log_sums, alone = (unwritten(n, positions) for _ in range(2))
    kernels("attention", *shape, theta, phi, g, out, log_sums, scratch)
    kernels("attention_gradient", *shape, theta, phi, g, out, log_sums, d_out, *gradients, scratch)
    kernels("attention", *shape, theta, phi, g, None, alone, scratch)

    np.testing.assert_array_equal(alone, log_sums)
    assert_close(out, reference.embedded_gaussian_attention(theta, phi, g, use_scale=True))
    expected = reference.embedded_gaussian_attention_gradient(theta, phi, g, d_out, use_scale=True)
    # A softmax over one position has no gradient; there only rounding is left.
    for actual, wanted in zip(gradients, expected):
        if wanted.any():
            assert_close(actual, wanted)
        else:
            np.testing.assert_allclose(actual, 0, atol=1e-6)


def test_attention_without_channels_weighs_all_positions_alike(kernels):
    empty, log_sums = np.zeros((2, 0, 3, 2), np.float32), unwritten(2, 6)
    maps = [empty, empty, empty, empty]
    kernels("attention", 2, 0, 6, 1.0, FLOAT32, *maps, log_sums, unwritten(1))
    np.testing.assert_allclose(log_sums, np.log(6), rtol=1e-6)


@pytest.mark.parametrize("products", [FLOAT32, TENSOR_CORES])
def test_attention_with_scores_that_are_far_apart(kernels, products):
    """Scores of hundreds, whose exponentials do not fit a float."""
    random = np.random.RandomState(0)
    theta, phi, g = (normal(random, 1, 4, 9, 15) for _ in range(3))
    theta *= 100
    out, log_sums = unwritten(*g.shape), unwritten(1, 135)
    scratch = unwritten(kernels.size("attention_scratch", 1, 4, 135))
    kernels("attention", 1, 4, 135, 1.0, products, theta, phi, g, out, log_sums, scratch)
    # At such scores float32 itself is off by 1e-5 in a weight.
    assert_close(out, reference.embedded_gaussian_attention(theta, phi, g), 1e-4)
