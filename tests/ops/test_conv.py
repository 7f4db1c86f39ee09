"""Conv and ConvGradient against float64 sums, and the cases in which Caffe2's own operator runs."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from conv_definition import convolve
from native_runner import (
    assert_close,
    needs_native,
    normal,
    run_operator,
    run_with_gradient,
    threads,
)

pytestmark = needs_native


SPELLINGS = [
    ({"kernel": 3, "pad": 1}, {"pads": (1, 1, 1, 1)}),
    ({"kernels": [3, 3], "pads": [1, 2, 1, 2], "strides": [2, 2]},
     {"pads": (1, 2, 1, 2), "stride": 2}),
    ({"kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2}, {"stride": 2}),
    ({"kernel": 3, "pad_t": 2, "pad_l": 2, "pad_b": 2, "pad_r": 2, "dilation": 2},
     {"pads": (2, 2, 2, 2), "dilation": 2}),
    ({"kernel": 3, "dilations": [1, 1], "group": 2}, {"group": 2}),
    ({"kernel": 3, "pads": [0, 1, 2, 1]}, {"pads": (0, 1, 2, 1)}),
    ({"kernel": 3, "pads": [0, 0, 2, 2], "stride": 2}, {"pads": (0, 0, 2, 2), "stride": 2}),
    ({"kernel": 3, "pad_t": 1, "pad_l": 0, "pad_b": 0, "pad_r": 3, "dilation": 2, "group": 2},
     {"pads": (1, 0, 0, 3), "dilation": 2, "group": 2}),
    ({"kernel": 3, "pad": 1, "fast_conv": 0}, {"pads": (1, 1, 1, 1)}),
]  # fmt: skip


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("arguments", "meaning"), SPELLINGS)
def test_equals_the_definition_forward_and_backward(arguments, meaning, with_bias):
    random = np.random.RandomState(0)
    x = normal(random, 2, 6, 11, 9)
    filters = normal(random, 8, 6 // arguments.get("group", 1), 3, 3)
    bias = normal(random, 8) if with_bias else None
    shape = convolve(x, filters, bias, None, **meaning)[0].shape
    d_y = normal(random, *shape)
    y, d_x, d_filter, d_bias = convolve(x, filters, bias, d_y, **meaning)

    inputs = [x, filters, bias] if with_bias else [x, filters]
    (actual,), gradients = run_with_gradient("Conv", inputs, d_y, **arguments)
    assert_close(actual, y)
    assert_close(gradients[0], d_x)
    assert_close(gradients[1], d_filter)
    if with_bias:
        assert_close(gradients[2], d_bias)


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_gradient_of_the_input_can_be_left_out(with_bias):
    random = np.random.RandomState(1)
    x, filters, bias = normal(random, 1, 2, 5, 5), normal(random, 4, 2, 3, 3), normal(random, 4)
    inputs = [x, filters, bias] if with_bias else [x, filters]
    d_y = normal(random, 1, 4, 3, 3)
    _, gradients = run_with_gradient("Conv", inputs, d_y, kernel=3, no_gradient_to_input=1)
    assert 0 not in gradients
    assert_close(gradients[1], convolve(x, filters, bias, d_y)[2])


@pytest.mark.parametrize("switch", ["argument", "environment"])
def test_the_fast_conv_switch_selects_caffe2s_operator(switch, monkeypatch):
    # The two sum in different orders, so their last bits differ on enough numbers.
    random = np.random.RandomState(2)
    inputs = [normal(random, 2, 64, 20, 20), normal(random, 64, 64, 3, 3)]
    (fast,) = run_operator("Conv", inputs, kernel=3)
    arguments = {"fast_conv": 0} if switch == "argument" else {}
    if switch == "environment":
        monkeypatch.setenv("DETECTRON_EXT_FAST_CONV", "0")
    (stock,) = run_operator("Conv", inputs, kernel=3, **arguments)
    (twin,) = run_operator("Conv2D", inputs, kernel=3)
    assert np.array_equal(stock, twin)
    assert not np.array_equal(fast, twin)
    assert_close(fast, twin)


def test_channels_last_maps_use_caffe2s_operator():
    random = np.random.RandomState(3)
    x, filters = normal(random, 1, 4, 6, 5), normal(random, 3, 4, 3, 3)
    last = [x.transpose(0, 2, 3, 1).copy(), filters.transpose(0, 2, 3, 1).copy()]
    (y,) = run_operator("Conv", last, kernel=3, order="NHWC")
    assert_close(y.transpose(0, 3, 1, 2), convolve(x, filters, None, None)[0])


def test_three_dimensional_filters_use_caffe2s_operator():
    x, filters = np.ones((1, 1, 3, 3, 3), np.float32), np.ones((1, 1, 2, 2, 2), np.float32)
    (y,) = run_operator("Conv", [x, filters], kernels=[2, 2, 2])
    assert np.array_equal(y, np.full((1, 1, 2, 2, 2), 8, np.float32))


def test_an_empty_batch_gives_an_empty_output():
    inputs = [np.zeros((0, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)]
    (y,), gradients = run_with_gradient("Conv", inputs, kernel=3)
    assert y.shape == (0, 3, 3, 3)
    assert np.array_equal(gradients[1], np.zeros((3, 2, 3, 3)))


def test_a_run_does_not_overwrite_the_output_of_the_one_before():
    random = np.random.RandomState(4)
    x, filters = normal(random, 1, 2, 5, 5), normal(random, 3, 2, 3, 3)
    workspace.ResetWorkspace()
    net = core.Net("twice")
    net.Conv(["x", "w"], "y", kernel=3)
    workspace.FeedBlob("w", filters)
    results = []
    for factor in (1, 2):
        workspace.FeedBlob("x", factor * x)
        workspace.RunNetOnce(net)
        results.append(workspace.FetchBlob("y"))
    assert_close(results[1], 2 * results[0].astype(np.float64))


@pytest.mark.parametrize(
    ("x", "filters", "bias", "message"),
    [
        ((1, 4, 5, 5), (2, 3, 3, 3), None, r"filter of shape \[2, 3, 3, 3\].*\[1, 4, 5, 5\]"),
        ((1, 4, 5, 5), (2, 4, 5, 3), None, r"filter of shape \[2, 4, 5, 3\]"),
        ((1, 4, 5, 5), (2, 4, 3, 3), (3,), r"bias of shape \[3\]"),
        ((1, 4, 5, 5), (0, 4, 3, 3), None, r"filter of shape \[0, 4, 3, 3\] is empty"),
        ((1, 4, 5, 5), (2, 4, 3), None, r"filter of shape \[2, 4, 3\] does not fit"),
        ((1, 4, 5, 5, 1), (2, 4, 3, 3), None, r"\[1, 4, 5, 5, 1\] must have 4 dimensions"),
        ((1, 4, 0, 5), (2, 4, 3, 3), None, r"\[1, 4, 0, 5\] must have channels and positions"),
        ((1, 4, 5, 2), (2, 4, 3, 3), None, r"a window of 3 does not fit X of shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, filters, bias, message):
    inputs = [np.zeros(shape, np.float32) for shape in (x, filters, bias) if shape]
    with pytest.raises(RuntimeError, match=f"(?s)Conv: .*{message}"):
        run_operator("Conv", inputs, kernel=3)


@pytest.mark.parametrize("fast", [0, 1])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(0, 4, 5, 5), (0, 4, 3, 3), (0, 2, 3, 3)], r"filter of shape \[0, 4, 3, 3\] is empty"),
        ([(1, 4, 5, 5), (2, 4, 3, 3), (1, 2, 2, 3)], r"dY of shape \[1, 2, 2, 3\]"),
        ([(2, 4, 5, 5), (2, 4, 3, 3), (1, 2, 3, 3)], r"dY of shape \[1, 2, 3, 3\]"),
    ],
)
def test_a_gradient_that_does_not_fit_is_refused(shapes, message, fast):
    """Also where Caffe2's own operator would run, which reads beyond it or divides by 0."""
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(RuntimeError, match=f"(?s)ConvGradient: .*{message}"):
        run_operator("ConvGradient", inputs, 3, kernel=3, fast_conv=fast)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((1, 40, 33, 47, 72), {"stride": 2, "pad": 1}),
        ((3, 16, 30, 31, 100), {"stride": 2, "pad": 1}),
        ((1, 3, 90, 80, 64), {"kernel": 7, "stride": 2, "pad": 3}),
        ((9, 8, 20, 20, 8), {"pad": 1}),
        ((2, 32, 25, 25, 32), {"pad": 2, "dilation": 2, "group": 4}),
        ((1, 64, 20, 20, 1), {"pad": 1}),
    ],
)
def test_same_bits_for_any_number_of_threads(shape, arguments):
    images, channels, height, width, filters = shape
    settings = {"kernel": 3, **arguments}
    random = np.random.RandomState(1)
    x = normal(random, images, channels, height, width)
    side = settings["kernel"]
    inputs = [x, normal(random, filters, channels // settings.get("group", 1), side, side)]
    inputs.append(normal(random, filters))
    runs = []
    for count in (1, 2, 3, 8):
        with threads(count):
            (y,), gradients = run_with_gradient("Conv", inputs, **settings)
            runs.append((y, gradients))
    for y, gradients in runs[1:]:
        assert np.array_equal(y, runs[0][0])
        assert sorted(gradients) == [0, 1, 2]
        assert all(np.array_equal(gradients[i], runs[0][1][i]) for i in gradients)
