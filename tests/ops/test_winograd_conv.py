"""Conv and ConvGradient by Winograd's minimal filtering: 3x3 filters of stride 1."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from conv_definition import convolve
from native_runner import needs_native, normal, run_with_gradient, threads

pytestmark = needs_native

TILES = {"winograd_2x2": 2e-6, "winograd_4x4": 1e-5}  # and the contract of their accuracy
each_tile = pytest.mark.parametrize("tile", TILES)


def run(x, filters, bias, d_y, pads, with_d_x=True, **arguments):
    """Return y and the gradients. Before the run, all outputs are filled with NaNs."""
    workspace.ResetWorkspace()
    inputs = {"x": x, "filters": filters} if bias is None else {
        "x": x, "filters": filters, "bias": bias}  # fmt: skip
    outputs = {"d_filters": filters.shape}
    if bias is not None:
        outputs["d_bias"] = bias.shape
    if with_d_x:
        outputs["d_x"] = x.shape
    for name, array in {**inputs, "d_y": d_y}.items():
        workspace.FeedBlob(name, array)
    for name, shape in {**outputs, "y": d_y.shape}.items():
        workspace.FeedBlob(name, np.full(shape, np.nan, np.float32))
    shared = {"kernel": 3, "pads": list(pads), **arguments}
    workspace.RunOperatorsOnce(
        [
            core.CreateOperator("Conv", list(inputs), ["y"], **shared),
            core.CreateOperator(
                "ConvGradient", ["x", "filters", "d_y"], list(outputs),
                no_bias=int(bias is None), **shared,
            ),
        ]
    )  # fmt: skip
    return {name: workspace.FetchBlob(name) for name in ["y", *outputs]}


def made_up(images, ins, outs, height, width, pads=(1, 1, 1, 1), with_bias=True):
    random = np.random.RandomState(0)
    out = (height + pads[0] + pads[2] - 2, width + pads[1] + pads[3] - 2)
    return (
        normal(random, images, ins, height, width),
        normal(random, outs, ins, 3, 3),
        normal(random, outs) if with_bias else None,
        normal(random, images, outs, *out),
    )


def relative_errors(results, x, filters, bias, d_y, pads):
    y, d_x, d_filters, d_bias = convolve(x, filters, bias, d_y, pads)
    expected = {"y": y, "d_x": d_x, "d_filters": d_filters, "d_bias": d_bias}
    errors = {}
    for name, actual in results.items():
        assert actual.shape == expected[name].shape
        norm = np.linalg.norm(expected[name].ravel())
        errors[name] = np.linalg.norm((actual - expected[name]).ravel()) / norm
    return errors


def check(tile, results, *tensors):
    errors = relative_errors(results, *tensors)
    assert all(error <= TILES[tile] for error in errors.values()), errors


SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 1, 2, 5),
    (3, 8, 16, 8, 12),  # whole vectors and tiles
    (1, 3, 9, 5, 3),
    (3, 17, 33, 13, 11),  # remainders everywhere
    (2, 5, 70, 4, 67),  # more tiles in a row than a run has
    (1, 97, 50, 6, 7),  # panels of channels of several widths
    (2, 1, 130, 3, 3),  # several tasks for the outputs
]


@each_tile
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, with_bias, tile):
    tensors = made_up(*shape, with_bias=with_bias)
    pads = (1, 1, 1, 1)
    check(tile, run(*tensors, pads, algorithm=tile), *tensors, pads)


@each_tile
@pytest.mark.parametrize("shape", [(1, 4, 3, 3, 3), (2, 9, 5, 10, 13)])
@pytest.mark.parametrize("pads", [(0,) * 4, (2,) * 4, (0, 1, 2, 1), (1, 0, 0, 2), (2, 2, 0, 0)])
def test_any_padding_equals_the_definition(shape, pads, tile):
    tensors = made_up(*shape, pads)
    check(tile, run(*tensors, pads, algorithm=tile), *tensors, pads)


@each_tile
def test_several_bands_of_tiles_equal_the_definition(tile):
    tensors = made_up(2, 40, 33, 130, 141)
    pads = (1, 1, 1, 1)
    check(tile, run(*tensors, pads, algorithm=tile), *tensors, pads)


@each_tile
def test_the_error_on_data_like_a_networks_keeps_the_contract(tile):
    x, filters, bias, d_y = made_up(2, 256, 256, 16, 16)
    tensors = np.maximum(x, 0), filters / np.float32(34), bias, d_y * (d_y > 1)
    pads = (1, 1, 1, 1)
    check(tile, run(*tensors, pads, algorithm=tile), *tensors, pads)


@each_tile
def test_the_gradient_of_the_input_can_be_left_out(tile):
    tensors = made_up(2, 17, 33, 13, 11)
    pads = (1, 1, 1, 1)
    results = run(*tensors, pads, with_d_x=False, algorithm=tile)
    assert "d_x" not in results
    check(tile, results, *tensors, pads)


@each_tile
@pytest.mark.parametrize(
    "shape", [(2, 17, 33, 13, 11), (1, 70, 130, 40, 37), (2, 40, 33, 130, 141)]
)
def test_same_bits_for_any_number_of_threads(shape, tile):
    tensors = made_up(*shape)
    runs = []
    for count in (1, 2, 3):
        with threads(count):
            runs.append(run(*tensors, (1, 1, 1, 1), algorithm=tile))
    for other in runs[1:]:
        assert all(np.array_equal(runs[0][name], other[name]) for name in other)


@each_tile
def test_a_smaller_layer_after_a_larger_one_equals_the_definition(tile):
    """Both use the same working memory, which holds the numbers of the first one."""
    pads = (1, 1, 1, 1)
    large = made_up(1, 70, 65, 20, 20)
    run(*(np.full_like(tensor, np.inf) for tensor in large), pads, algorithm=tile)
    small = made_up(1, 9, 10, 7, 6)
    check(tile, run(*small, pads, algorithm=tile), *small, pads)


def results_of(shape, algorithm=None):
    arguments = {} if algorithm is None else {"algorithm": algorithm}
    return run(*made_up(*shape), (1, 1, 1, 1), **arguments)


def same(a, b):
    return {name: np.array_equal(a[name], b[name]) for name in ("y", "d_x", "d_filters")}


WIDE, NARROW, TINY = (2, 64, 64, 40, 40), (1, 2, 3, 40, 40), (1, 128, 128, 2, 2)


@pytest.mark.parametrize("algorithm", [None, "auto"])
def test_auto_takes_winograd_for_many_channels_and_positions(algorithm):
    auto = results_of(WIDE, algorithm)
    assert all(same(auto, results_of(WIDE, "winograd")).values())
    assert all(same(auto, results_of(WIDE, "winograd_4x4")).values())
    assert not any(same(auto, results_of(WIDE, "direct")).values())


@pytest.mark.parametrize("shape", [NARROW, TINY])
def test_auto_takes_the_direct_sum_for_few_channels_and_for_few_positions(shape):
    auto = results_of(shape)
    assert all(same(auto, results_of(shape, "direct")).values())
    assert not any(same(auto, results_of(shape, "winograd")).values())


def test_small_maps_take_smaller_tiles():
    assert all(same(results_of(TINY, "winograd"), results_of(TINY, "winograd_2x2")).values())


@pytest.mark.parametrize(
    ("variable", "algorithm"),
    [
        ("direct", "direct"),
        ("winograd", "winograd"),
        ("auto", "auto"),
        ("1", "direct"),
        ("", "direct"),
    ],
)
def test_the_environment_goes_before_the_argument(variable, algorithm, monkeypatch):
    monkeypatch.setenv("DETECTRON_EXT_FAST_CONV", variable)
    found = results_of(WIDE, "direct")
    monkeypatch.delenv("DETECTRON_EXT_FAST_CONV")
    assert all(same(found, results_of(WIDE, algorithm)).values())


def test_an_unknown_algorithm_is_refused(monkeypatch):
    with pytest.raises(RuntimeError, match='Conv: algorithm is "fft"; it must be auto, direct'):
        results_of(NARROW, "fft")
    monkeypatch.setenv("DETECTRON_EXT_FAST_CONV", "no")
    with pytest.raises(
        RuntimeError, match='DETECTRON_EXT_FAST_CONV is "no"; it must be 0, 1, auto'
    ):
        results_of(NARROW)


@pytest.mark.parametrize(
    ("arguments", "meaning"),
    [
        ({"stride": 2, "pad": 1}, {"stride": 2, "pads": (1, 1, 1, 1)}),
        ({"dilation": 2, "pad": 1}, {"dilation": 2, "pads": (1, 1, 1, 1)}),
        ({"group": 2, "pad": 1}, {"group": 2, "pads": (1, 1, 1, 1)}),
        ({"pad": 3}, {"pads": (3, 3, 3, 3)}),
    ],
)
def test_other_convolutions_with_3x3_filters_take_the_direct_sum(arguments, meaning):
    random = np.random.RandomState(0)
    x, filters = normal(random, 2, 16, 9, 8), normal(random, 8, 16 // meaning.get("group", 1), 3, 3)
    d_y = normal(random, *convolve(x, filters, None, None, **meaning)[0].shape)
    y, d_x, d_filters, _ = convolve(x, filters, None, d_y, **meaning)
    (actual,), gradients = run_with_gradient(
        "Conv", [x, filters], d_y, kernel=3, algorithm="winograd", **arguments
    )
    for got, expected in zip((actual, gradients[0], gradients[1]), (y, d_x, d_filters)):
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_gives_an_empty_output():
    inputs = [np.zeros((0, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)]
    (y,), gradients = run_with_gradient("Conv", inputs, kernel=3, pad=1, algorithm="winograd")
    assert y.shape == (0, 3, 5, 5)
    assert np.array_equal(gradients[1], np.zeros((3, 2, 3, 3)))


@pytest.mark.parametrize(
    ("filters", "bias", "d_y", "message"),
    [
        ((3, 2, 3, 3), (4,), (1, 3, 5, 5), r"Conv: bias of shape \[4\]"),
        ((3, 4, 3, 3), (3,), (1, 3, 5, 5), r"Conv: filter of shape \[3, 4, 3, 3\]"),
        ((3, 2, 3, 3), (3,), (1, 3, 5, 4), r"ConvGradient: dY of shape \[1, 3, 5, 4\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(filters, bias, d_y, message):
    arrays = [np.zeros(shape, np.float32) for shape in ((1, 2, 5, 5), filters, bias, d_y)]
    with pytest.raises(RuntimeError, match=f"(?s){message}"):
        run(*arrays, (1, 1, 1, 1), algorithm="winograd")
