"""Conv and ConvGradient with a filter for each channel, against float64 sums."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from conv_definition import convolve
from native_runner import assert_close, needs_native, normal, run_with_gradient, threads

pytestmark = needs_native

WINDOWS = [(kernel, stride) for kernel in (3, 5) for stride in (1, 2)]
each_window = pytest.mark.parametrize(("kernel", "stride"), WINDOWS)


def same_pads(sizes, kernel, stride):
    """Return TensorFlow's SAME padding, as top, left, bottom, right."""
    totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in sizes]
    before = [total // 2 for total in totals]
    return (*before, *(total - half for total, half in zip(totals, before)))


def made_up(shape, kernel, stride, pads, with_bias=True):
    """Return x, the filters, the bias or None, and the gradient of y."""
    random = np.random.RandomState(0)
    images, channels, *sizes = shape
    out = [
        (size + pads[axis] + pads[axis + 2] - kernel) // stride + 1
        for axis, size in enumerate(sizes)
    ]
    return (
        normal(random, *shape),
        normal(random, channels, 1, kernel, kernel),
        normal(random, channels) if with_bias else None,
        normal(random, images, channels, *out),
    )


def run(x, filters, bias, d_y, stride, pads, **arguments):
    """Return y and the gradients; every output lies where there were NaNs before."""
    workspace.ResetWorkspace()
    inputs = {"x": x, "filters": filters} if bias is None else {
        "x": x, "filters": filters, "bias": bias}  # fmt: skip
    outputs = {f"d_{name}": inputs[name].shape for name in ("filters", "bias") if name in inputs}
    outputs["d_x"] = x.shape
    for name, array in {**inputs, "d_y": d_y}.items():
        workspace.FeedBlob(name, array)
    for name, shape in {**outputs, "y": d_y.shape}.items():
        workspace.FeedBlob(name, np.full(shape, np.nan, np.float32))
    window = {
        "kernel": filters.shape[2], "stride": stride, "pads": list(pads), "group": x.shape[1],
        **arguments,
    }  # fmt: skip
    gradient_inputs = ["x", "filters", "d_y"]
    workspace.RunOperatorsOnce(
        [
            core.CreateOperator("Conv", list(inputs), ["y"], **window),
            core.CreateOperator(
                "ConvGradient", gradient_inputs, list(outputs), no_bias=int(bias is None), **window
            ),
        ]
    )
    return {name: workspace.FetchBlob(name) for name in ["y", *outputs]}


def check(results, x, filters, bias, d_y, stride, pads):
    y, d_x, d_filters, d_bias = convolve(
        x, filters, bias, d_y, pads=pads, stride=stride, group=x.shape[1]
    )
    expected = {"y": y, "d_x": d_x, "d_filters": d_filters, "d_bias": d_bias}
    for name, actual in results.items():
        assert_close(actual, expected[name])


SHAPES = [
    (1, 1, 16, 32),  # one channel; whole vectors and tiles
    (2, 3, 1, 1),  # smaller than every filter
    (2, 2, 3, 3),
    (1, 5, 7, 9),
    (2, 3, 13, 40),  # remainders on each axis
    (1, 2, 41, 1),
    (1, 2, 2, 67),
    (1, 3, 151, 75),  # many strips of rows
    (3, 70, 10, 10),
]


@each_window
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape, kernel, stride):
    for with_bias, pads in [
        (True, same_pads(shape[2:], kernel, stride)),
        (False, (kernel // 2,) * 4),
    ]:
        tensors = made_up(shape, kernel, stride, pads, with_bias)
        check(run(*tensors, stride, pads), *tensors, stride, pads)


@each_window
@pytest.mark.parametrize(
    "pads",
    [
        (0, 0, 0, 0),
        (0, 0, 1, 1),
        (1, 0, 2, 3),
        (4, 3, 0, 1),
        (3, 4, 5, 6),
        (9, 0, 0, 8),  # larger than the map
        (11, 12, 13, 14),
        (0, 0, 20, 21),
    ],
)
def test_any_padding_equals_the_definition(pads, kernel, stride):
    for sizes in [(5, 6), (8, 33)]:
        tensors = made_up((2, 3, *sizes), kernel, stride, pads)
        check(run(*tensors, stride, pads), *tensors, stride, pads)


def test_tensorflows_padding_is_uneven_at_stride_2():
    assert same_pads((224, 113), 3, 2) == (0, 1, 1, 1)
    assert same_pads((224, 113), 5, 2) == (1, 2, 2, 2)


@each_window
def test_many_channels_equal_the_definition(kernel, stride):
    pads = same_pads((4, 7), kernel, stride)
    tensors = made_up((2, 1153, 4, 7), kernel, stride, pads)
    check(run(*tensors, stride, pads), *tensors, stride, pads)


@each_window
def test_rows_wider_than_a_strip_equal_the_definition(kernel, stride):
    tensors = made_up((1, 1, 6, 7001), kernel, stride, (2, 1, 0, 3))
    check(run(*tensors, stride, (2, 1, 0, 3)), *tensors, stride, (2, 1, 0, 3))


@each_window
def test_an_empty_batch_gives_an_empty_output(kernel, stride):
    pads = same_pads((6, 7), kernel, stride)
    x, filters, bias, d_y = made_up((0, 4, 6, 7), kernel, stride, pads)
    (y,), gradients = run_with_gradient(
        "Conv", [x, filters, bias], d_y, kernel=kernel, stride=stride, pads=list(pads), group=4
    )
    assert y.shape == d_y.shape
    assert np.array_equal(gradients[1], np.zeros(filters.shape))
    assert np.array_equal(gradients[2], np.zeros(4))


@each_window
@pytest.mark.parametrize("shape", [(2, 33, 47, 61), (3, 300, 10, 9), (1, 2, 190, 170)])
def test_same_bits_for_any_number_of_threads(shape, kernel, stride):
    pads = same_pads(shape[2:], kernel, stride)
    tensors = made_up(shape, kernel, stride, pads)
    runs = []
    for count in (1, 2, 4, 4):
        with threads(count):
            runs.append(run(*tensors, stride, pads))
    for other in runs[1:]:
        assert all(np.array_equal(runs[0][name], other[name]) for name in other)


def test_the_bits_of_an_image_do_not_depend_on_the_batch():
    tensors = made_up((3, 5, 14, 23), 5, 2, (1, 1, 2, 2))
    x, filters, bias, d_y = tensors
    whole = run(*tensors, 2, (1, 1, 2, 2))
    alone = run(x[1:2], filters, bias, d_y[1:2], 2, (1, 1, 2, 2))
    for name in ("y", "d_x"):
        assert np.array_equal(whole[name][1:2], alone[name])


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_gradient_of_the_input_can_be_left_out(with_bias):
    x, filters, bias, d_y = made_up((2, 6, 9, 8), 3, 2, (0, 0, 1, 1), with_bias)
    inputs = [x, filters, bias] if with_bias else [x, filters]
    _, gradients = run_with_gradient(
        "Conv", inputs, d_y, kernel=3, stride=2, pads=[0, 0, 1, 1], group=6, no_gradient_to_input=1
    )
    assert 0 not in gradients
    expected = convolve(x, filters, bias, d_y, pads=(0, 0, 1, 1), stride=2, group=6)
    assert_close(gradients[1], expected[2])


@pytest.mark.parametrize(
    ("kernel", "arguments", "meaning"),
    [
        (3, {"stride": 3}, {"stride": 3}),
        (3, {"dilation": 2}, {"dilation": 2}),
        (7, {"pad": 3}, {"pads": (3, 3, 3, 3)}),
        (7, {"pads": [2, 3, 3, 2]}, {"pads": (2, 3, 3, 2)}),
        (4, {"pad": 1}, {"pads": (1, 1, 1, 1)}),
        (2, {}, {}),
    ],
)
def test_windows_without_a_special_kernel_equal_the_definition(kernel, arguments, meaning):
    random = np.random.RandomState(1)
    x, filters = normal(random, 2, 4, 11, 12), normal(random, 4, 1, kernel, kernel)
    d_y = normal(random, *convolve(x, filters, None, None, group=4, **meaning)[0].shape)
    y, d_x, d_filters, _ = convolve(x, filters, None, d_y, group=4, **meaning)
    (actual,), gradients = run_with_gradient(
        "Conv", [x, filters], d_y, kernel=kernel, group=4, **arguments
    )
    for got, expected in zip((actual, gradients[0], gradients[1]), (y, d_x, d_filters)):
        assert_close(got, expected)


def test_several_filters_for_each_channel_equal_the_definition():
    random = np.random.RandomState(2)
    x, filters = normal(random, 2, 4, 9, 8), normal(random, 8, 1, 3, 3)
    meaning = {"pads": (0, 1, 1, 0), "stride": 2, "group": 4}
    d_y = normal(random, *convolve(x, filters, None, None, **meaning)[0].shape)
    y, d_x, d_filters, _ = convolve(x, filters, None, d_y, **meaning)
    (actual,), gradients = run_with_gradient(
        "Conv", [x, filters], d_y, kernel=3, stride=2, pads=[0, 1, 1, 0], group=4
    )
    for got, expected in zip((actual, gradients[0], gradients[1]), (y, d_x, d_filters)):
        assert_close(got, expected)


@each_window
@pytest.mark.parametrize("switch", ["argument", "environment"])
def test_caffe2s_operator_gives_the_same(switch, kernel, stride, monkeypatch):
    """Without the library Caffe2's own Conv runs; it takes uneven padding of groups, too."""
    pads = same_pads((10, 13), kernel, stride)
    tensors = made_up((2, 6, 10, 13), kernel, stride, pads)
    if switch == "environment":
        monkeypatch.setenv("DETECTRON_EXT_FAST_CONV", "0")
    arguments = {"fast_conv": 0} if switch == "argument" else {}
    stock = run(*tensors, stride, pads, **arguments)
    check(stock, *tensors, stride, pads)
    monkeypatch.delenv("DETECTRON_EXT_FAST_CONV", raising=False)
    ours = run(*tensors, stride, pads)
    assert any(not np.array_equal(ours[name], stock[name]) for name in ours)


@pytest.mark.parametrize(
    ("filters", "bias", "d_y", "message"),
    [
        ((3, 1, 3, 3), (4,), (1, 3, 5, 5), r"Conv: bias of shape \[4\] .*\[3, 1, 3, 3\]"),
        ((3, 1, 3, 3), (3,), (1, 3, 5, 4), r"ConvGradient: dY of shape \[1, 3, 5, 4\]"),
        ((3, 2, 3, 3), (3,), (1, 3, 5, 5), r"Conv: filter of shape \[3, 2, 3, 3\]"),
        ((3, 1, 5, 3), (3,), (1, 3, 5, 5), r"Conv: filter of shape \[3, 1, 5, 3\]"),
        ((4, 1, 3, 3), (4,), (1, 3, 5, 5), r"Conv: filter of shape \[4, 1, 3, 3\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(filters, bias, d_y, message):
    arrays = [np.zeros(shape, np.float32) for shape in ((1, 3, 5, 5), filters, bias, d_y)]
    with pytest.raises(RuntimeError, match=f"(?s){message}"):
        run(*arrays, 1, (1, 1, 1, 1), kernel=3)


def test_a_map_smaller_than_the_filter_is_refused():
    arrays = [np.zeros(shape, np.float32) for shape in ((1, 3, 2, 5), (3, 1, 3, 3), (3,), (1,))]
    with pytest.raises(RuntimeError, match="Conv: a window of 3 does not fit X of shape"):
        run(*arrays, 1, (0, 0, 0, 0))
