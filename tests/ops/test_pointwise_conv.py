"""Conv and ConvGradient with 1x1 filters, which have kernels of their own, against float64 sums."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from conv_definition import convolve
from native_runner import assert_close, needs_native, normal, run_with_gradient, threads

pytestmark = needs_native


def run(x, filters, bias, d_y, with_d_x=True, **arguments):
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
    workspace.RunOperatorsOnce(
        [
            core.CreateOperator("Conv", list(inputs), ["y"], kernel=1, **arguments),
            core.CreateOperator(
                "ConvGradient", ["x", "filters", "d_y"], list(outputs), kernel=1,
                no_bias=int(bias is None), **arguments,
            ),
        ]
    )  # fmt: skip
    return {name: workspace.FetchBlob(name) for name in ["y", *outputs]}


def made_up(images, ins, outs, height, width, strides=(1, 1), with_bias=True):
    random = np.random.RandomState(0)
    out = [(size - 1) // stride + 1 for size, stride in zip((height, width), strides)]
    return (
        normal(random, images, ins, height, width),
        normal(random, outs, ins, 1, 1),
        normal(random, outs) if with_bias else None,
        normal(random, images, outs, *out),
    )


def check(results, x, filters, bias, d_y, strides=(1, 1)):
    # Of a 1x1 filter, a stride means a smaller image.
    seen = x[:, :, :: strides[0], :: strides[1]]
    y, d_seen, d_filters, d_bias = convolve(seen, filters, bias, d_y)
    d_x = np.zeros(x.shape)
    d_x[:, :, :: strides[0], :: strides[1]] = d_seen
    expected = {"y": y, "d_filters": d_filters, "d_bias": d_bias, "d_x": d_x}
    for name, actual in results.items():
        assert_close(actual, expected[name])
    if "d_x" in results:
        assert not results["d_x"][d_x == 0].any()


SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 9, 3, 5),
    (3, 8, 1, 7, 9),
    (2, 16, 32, 12, 4),  # whole vectors and tiles
    (2, 17, 33, 13, 11),  # remainders everywhere
    (1, 97, 50, 31, 37),  # panels of channels of several widths
    (2, 5, 70, 43, 41),  # many strips, across the border of two images
    (1, 20, 530, 2, 3),  # many groups of rows
    (1, 3001, 10, 3, 7),  # a panel alone fills a strip
    (1, 300, 130, 5, 4),  # units of work by columns and rows
]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, with_bias):
    tensors = made_up(*shape, with_bias=with_bias)
    check(run(*tensors), *tensors)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 17, 33, 13, 12), (1, 40, 9, 60, 61)])
@pytest.mark.parametrize("strides", [(2, 2), (3, 3), (1, 2), (2, 1), (4, 3), (70, 70)])
def test_strides_equal_the_definition(shape, strides):
    tensors = made_up(*shape, strides)
    stride_h, stride_w = strides
    check(run(*tensors, stride_h=stride_h, stride_w=stride_w), *tensors, strides)


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_gradient_of_the_input_can_be_left_out(with_bias):
    tensors = made_up(2, 17, 33, 13, 11, with_bias=with_bias)
    results = run(*tensors, with_d_x=False)
    assert "d_x" not in results
    check(results, *tensors)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("shape", [(2, 17, 33, 13, 11), (1, 70, 130, 61, 50), (1, 300, 130, 5, 4)])
def test_same_bits_for_any_number_of_threads(shape, strides):
    tensors = made_up(*shape, strides)
    runs = []
    for count in (1, 2, 3):
        with threads(count):
            runs.append(run(*tensors, stride_h=strides[0], stride_w=strides[1]))
    for other in runs[1:]:
        assert all(np.array_equal(runs[0][name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("ins", "arguments", "meaning"),
    [
        (6, {"pad": 1}, {"pads": (1, 1, 1, 1)}),
        (1, {"pad": 1}, {"pads": (1, 1, 1, 1)}),  # such a filter is in any order at once
        (6, {"pads": [0, 0, 1, 2]}, {"pads": (0, 0, 1, 2)}),
        (6, {"group": 2}, {"group": 2}),
        (6, {"fast_conv": 0}, {}),
    ],
)
def test_other_convolutions_with_1x1_filters_equal_the_definition(ins, arguments, meaning):
    x, filters, bias, _ = made_up(2, ins, 8, 5, 7)
    filters = filters[:, : ins // meaning.get("group", 1)]
    d_y = np.ones(convolve(x, filters, bias, None, **meaning)[0].shape, np.float32)
    y, d_x, d_filters, d_bias = convolve(x, filters, bias, d_y, **meaning)
    results = run(x, filters, bias, d_y, **arguments)
    for name, expected in {"y": y, "d_x": d_x, "d_filters": d_filters, "d_bias": d_bias}.items():
        assert_close(results[name], expected)


def test_an_empty_batch_gives_an_empty_output():
    inputs = [np.zeros((0, 2, 5, 5), np.float32), np.ones((3, 2, 1, 1), np.float32)]
    (y,), gradients = run_with_gradient("Conv", inputs, kernel=1)
    assert y.shape == (0, 3, 5, 5)
    assert np.array_equal(gradients[1], np.zeros((3, 2, 1, 1)))


@pytest.mark.parametrize(
    ("bias", "d_y", "message"),
    [
        ((4,), (1, 3, 5, 5), r"Conv: bias of shape \[4\]"),
        ((3,), (1, 3, 5, 4), r"ConvGradient: dY of shape \[1, 3, 5, 4\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(bias, d_y, message):
    x, filters, _, _ = made_up(1, 2, 3, 5, 5)
    with pytest.raises(RuntimeError, match=f"(?s){message}"):
        run(x, filters, np.zeros(bias, np.float32), np.zeros(d_y, np.float32))
