"""Layers and optimizer steps of Caffe2 that our library replaces, against float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from native_runner import assert_close, needs_native, normal, run_operator, run_with_gradient
from torch_peer import needs_recent_torch

pytestmark = needs_native


def channels_last(x):
    return np.moveaxis(x, 1, -1).copy()


def group_norm(x, gamma, beta, d_y, groups, epsilon):
    """Return y, d_x, d_gamma and d_beta of an (N, C, H, W) array in float64."""
    x, d_y = x.astype(np.float64), d_y.astype(np.float64)
    grouped = x.reshape(len(x), groups, -1)
    mean = grouped.mean(axis=2, keepdims=True)
    deviation = np.sqrt(grouped.var(axis=2, keepdims=True) + epsilon)
    normed = ((grouped - mean) / deviation).reshape(x.shape)
    g, b = (a.astype(np.float64)[:, None, None] for a in (gamma, beta))
    slope = (d_y * g).reshape(grouped.shape)
    z = normed.reshape(grouped.shape)
    means = slope.mean(axis=2, keepdims=True), (slope * z).mean(axis=2, keepdims=True)
    d_x = ((slope - means[0] - z * means[1]) / deviation).reshape(x.shape)
    return normed * g + b, d_x, (d_y * normed).sum(axis=(0, 2, 3)), d_y.sum(axis=(0, 2, 3))


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 8, 7, 5), 4), ((3, 6, 1, 1), 2), ((1, 4, 40, 50), 4)]
)
def test_group_norm_equals_the_definition(shape, groups, order):
    random = np.random.RandomState(0)
    x, d_y = 5 + 2 * normal(random, *shape), normal(random, *shape)
    gamma, beta = normal(random, shape[1]), normal(random, shape[1])
    expected = group_norm(x, gamma, beta, d_y, groups, 1e-3)
    place = channels_last if order == "NHWC" else np.array
    (y, mean, _), gradients = run_with_gradient(
        "GroupNorm", [place(x), gamma, beta], place(d_y), outputs=3,
        group=groups, epsilon=1e-3, order=order,
    )  # fmt: skip
    assert mean.shape == (shape[0], groups)
    assert_close(y, place(expected[0]))
    assert_close(gradients[0], place(expected[1]), 3e-5)
    assert_close(gradients[1], expected[2], 2e-5)
    assert_close(gradients[2], expected[3])
    (alone,) = run_operator(
        "GroupNorm", [place(x), gamma, beta], group=groups, epsilon=1e-3, order=order, is_test=1
    )
    assert np.array_equal(alone, y)


def test_group_norm_without_positions_gives_finite_numbers():
    x, ones, zeros = np.zeros((2, 4, 0, 3), np.float32), np.ones(4, np.float32), np.zeros(4)
    inputs = [x, ones, zeros.astype(np.float32)]
    (_, mean, inverse_std), gradients = run_with_gradient(
        "GroupNorm", inputs, x, outputs=3, group=2, epsilon=1e-4
    )
    assert not mean.any()
    np.testing.assert_allclose(inverse_std, 100, rtol=1e-4)
    assert not gradients[1].any() and not gradients[2].any()


def test_group_norm_of_a_large_mean_keeps_its_variance():
    x = (1000 + normal(np.random.RandomState(1), 1, 4, 30, 30)).astype(np.float32)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    expected = group_norm(x, ones, zeros, x, 2, 1e-5)[0]
    assert_close(run_operator("GroupNorm", [x, ones, zeros], group=2)[0], expected, 1e-4)


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("learnable", [0, 1])
def test_affine_channel_equals_the_definition(order, learnable):
    random = np.random.RandomState(2)
    x, d_y = normal(random, 3, 5, 6, 7), normal(random, 3, 5, 6, 7)
    scale, bias = normal(random, 5), normal(random, 5)
    place = channels_last if order == "NHWC" else np.array
    inputs = [place(x), scale, bias]
    if not learnable:
        (y,), gradients = run_with_gradient("AffineChannel", inputs, place(d_y), order=order)
        assert_close(gradients[0], place(d_y * scale[:, None, None]))
        assert_close(y, place(x * scale[:, None, None] + bias[:, None, None]))
        return
    workspace.ResetWorkspace()
    for name, array in zip("dxs", [place(d_y), place(x), scale]):
        workspace.FeedBlob(name, array)
    workspace.RunOperatorOnce(
        core.CreateOperator(
            "AffineChannelGradient",
            ["d", "x", "s"],
            ["dx", "ds", "db"],
            order=order,
            is_learnable=1,
        )  # fmt: skip
    )
    assert_close(workspace.FetchBlob("dx"), place(d_y * scale[:, None, None]))
    assert_close(workspace.FetchBlob("ds"), (d_y.astype(np.float64) * x).sum(axis=(0, 2, 3)))
    assert_close(workspace.FetchBlob("db"), d_y.astype(np.float64).sum(axis=(0, 2, 3)))


def pool_windows(size, kernel, stride, pad):
    """Return the slice of each window along an axis of `size`."""
    count = (size + 2 * pad - kernel) // stride + 1
    return [
        slice(max(i * stride - pad, 0), min(i * stride - pad + kernel, size)) for i in range(count)
    ]


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 1), (2, 2, 0), (1, 2, 0), (5, 3, 2), (3, 1, 1)]
)
@pytest.mark.parametrize("size", [(9, 12), (5, 40), (3, 3)])
def test_max_pool_equals_the_definition(size, kernel, stride, pad):
    if min(size) + 2 * pad < kernel:
        pytest.skip("no window fits")
    random = np.random.RandomState(3)
    x = random.randint(-3, 3, (2, 3, *size)).astype(np.float32)  # with equal maxima
    rows, columns = (pool_windows(s, kernel, stride, pad) for s in size)
    d_y = normal(random, 2, 3, len(rows), len(columns))
    y, d_x = np.zeros(d_y.shape), np.zeros(x.shape)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = x[:, :, row, column]
            y[:, :, i, j] = window.max(axis=(2, 3))
            hit = window == y[:, :, i, j][:, :, None, None]
            d_x[:, :, row, column] += hit * d_y[:, :, i, j][:, :, None, None]
    (actual,), gradients = run_with_gradient(
        "MaxPool", [x], d_y, kernel=kernel, stride=stride, pad=pad
    )
    assert np.array_equal(actual, y)
    assert_close(gradients[0], d_x)


@pytest.mark.parametrize("arguments", [{"global_pooling": 1}, {"kernel": 2, "order": "NHWC"}])
def test_other_max_pooling_uses_caffe2s_operator(arguments):
    x = normal(np.random.RandomState(4), 2, 4, 4, 4)
    (y,) = run_operator("MaxPool", [x], **arguments)
    (twin,) = run_operator("MaxPool2D", [x], **arguments)
    assert np.array_equal(y, twin)


def test_relu_equals_the_definition():
    x = np.array([-2, -0.0, 0, 3, np.inf, -np.inf], np.float32)
    (y,), gradients = run_with_gradient("Relu", [x], np.arange(1, 7, dtype=np.float32))
    assert np.array_equal(y, [0, 0, 0, 3, np.inf, 0])
    assert np.array_equal(gradients[0], [0, 0, 0, 4, 5, 0])
    assert np.isnan(run_operator("Relu", [np.float32([np.nan])])[0]).all()


# Caffe2's own Sum runs for other types than float. It takes doubles since torch 1.8.
@pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=needs_recent_torch), np.int32]
)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_sum_equals_the_definition(dtype, count):
    random = np.random.RandomState(5)
    terms = [random.randint(-99, 99, (3, 20000)).astype(dtype) for _ in range(count)]
    (total,) = run_operator("Sum", terms)
    assert total.dtype == dtype
    assert np.array_equal(total, sum(terms))


def test_relu_sum_and_affine_channel_work_in_place():
    random = np.random.RandomState(6)
    a, b = normal(random, 40000), normal(random, 40000)
    assert np.array_equal(run_operator("Relu", [a], ["input0"])[0], np.maximum(a, 0))
    assert np.array_equal(run_operator("ReluGradient", [a, b], ["input1"])[0], b * (a > 0))
    assert np.array_equal(run_operator("Sum", [a, b], ["input0"])[0], a + b)
    image, scale, bias = a.reshape(2, 4, 50, 100), b[:4], b[4:8]
    expected = image * scale[:, None, None].astype(np.float64) + bias[:, None, None]
    assert_close(run_operator("AffineChannel", [image, scale, bias], ["input0"])[0], expected)


def test_weighted_sum_works_in_place():
    random = np.random.RandomState(7)
    terms = [normal(random, 3, 10000) for _ in range(3)]
    weights = [np.float32([w]) for w in (1, -0.5, 2)]
    inputs = [array for pair in zip(terms, weights) for array in pair]
    (total,) = run_operator("WeightedSum", inputs, ["input0"])
    assert_close(total, terms[0] - 0.5 * terms[1].astype(np.float64) + 2 * terms[2])


@pytest.mark.parametrize("nesterov", [0, 1])
def test_momentum_sgd_update_equals_the_definition(nesterov):
    random = np.random.RandomState(8)
    gradient, velocity, parameter = (normal(random, 30000) for _ in range(3))
    rate = np.float32([0.1])
    inputs = [gradient, velocity, rate, parameter]
    outputs = ["input0", "input1", "input3"]
    after = run_operator("MomentumSGDUpdate", inputs, outputs, momentum=0.9, nesterov=nesterov)
    fresh = 0.9 * velocity.astype(np.float64) + 0.1 * gradient
    step = 1.9 * fresh - 0.9 * velocity if nesterov else fresh
    assert_close(after[0], step)
    assert_close(after[1], fresh)
    assert_close(after[2], parameter - step)


REFUSED_OUTPUTS = {
    "AffineChannelGradient": 3,
    "GroupNormGradient": 3,
    "MomentumSGDUpdate": ["input0", "input1", "input3"],
}


@pytest.mark.parametrize(
    ("operator", "shapes", "arguments", "message"),
    [
        ("GroupNorm", [(1, 6, 2, 2), (6,), (6,)], {"group": 4}, r"\[1, 6, 2, 2\] cannot be cut"),
        ("GroupNorm", [(1, 6, 2, 2), (5,), (6,)], {"group": 3}, r"gamma of shape \[5\]"),
        ("AffineChannel", [(1, 6, 2, 2), (5,), (6,)], {}, r"scale of shape \[5\].*1, 6, 2, 2"),
        ("Sum", [(2, 3), (3, 2)], {}, r"input 1 of shape \[3, 2\].*\[2, 3\]"),
        ("WeightedSum", [(2, 3), (1,), (5,), (1,)], {}, r"input 2 of shape \[5\]"),
        ("WeightedSum", [(2, 3), (1,), (2, 3), (2,)], {}, r"input 2 .*its weight of shape \[2\]"),
        ("MomentumSGDUpdate", [(3,), (3,), (2,), (3,)], {}, r"learning rate of shape \[2\]"),
        ("MomentumSGDUpdate", [(3,), (4,), (1,), (3,)], {}, r"momentum of shape \[4\]"),
        ("MomentumSGDUpdate", [(3,), (3,), (1,), (2,)], {}, r"parameter of shape \[2\]"),
        ("ReluGradient", [(2, 3), (5,)], {}, r"dY of shape \[5\].*\[2, 3\]"),
        ("AffineChannel", [(1, 6, 2, 2), (6,), (5,)], {}, r"bias of shape \[5\].*1, 6, 2, 2"),
        ("AffineChannelGradient", [(1, 6, 2, 2), (1, 6, 2, 3), (6,)], {"is_learnable": 1},
         r"dY of shape \[1, 6, 2, 2\].*\[1, 6, 2, 3\]"),
        ("GroupNormGradient", [(1, 4, 2, 2), (1, 4, 2, 3), (4,), (4,), (1, 2), (1, 2)],
         {"group": 2}, r"dY of shape \[1, 4, 2, 2\].*\[1, 4, 2, 3\]"),
        ("GroupNormGradient", [(1, 4, 2, 2), (1, 4, 2, 2), (4,), (4,), (1, 2), (1, 3)],
         {"group": 2}, r"input 5 of shape \[1, 3\].*\[1, 4, 2, 2\]"),
        ("MaxPoolGradient", [(1, 1, 4, 4), (1, 1, 2, 2), (1, 1, 3, 2)], {"kernel": 2, "stride": 2},
         r"dY of shape \[1, 1, 3, 2\]"),
        ("MaxPool", [(1, 3, 4, 4, 4)], {"kernel": 2}, r"\[1, 3, 4, 4, 4\] must have 4 dimensions"),
        ("MaxPool", [(4,)], {"kernel": 2}, r"\[4\] must have 4 dimensions"),
        ("MaxPool", [(1, 0, 4, 4)], {"kernel": 2}, r"\[1, 0, 4, 4\] must have channels"),
        ("MaxPool", [(1, 3, 4, 4, 4)], {"global_pooling": 1}, "must have 4 dimensions"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(operator, shapes, arguments, message):
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    outputs = REFUSED_OUTPUTS.get(operator, 1)
    with pytest.raises(RuntimeError, match=f"(?s){operator}: .*{message}"):
        run_operator(operator, inputs, outputs, **arguments)


@pytest.mark.parametrize(
    ("operator", "inputs", "arguments", "message"),
    [
        ("GroupNorm", 3, {"group": 0}, "group is 0"),
        ("GroupNorm", 3, {"order": "CHWN"}, "order must be NCHW or NHWC"),
        ("AffineChannel", 3, {"order": "CHWN"}, "order must be NCHW or NHWC"),
        ("MaxPool", 1, {"kernel": 2, "stride": 0}, "a stride is 0"),
        ("Conv", 2, {"kernel": 2, "strides": [1, 0]}, "a stride is 0"),
        ("Conv", 2, {"kernel": 2, "group": 0}, "group is 0"),
        ("Conv", 2, {"kernel": 0}, "a kernel is 0"),
        ("Conv", 2, {"kernel": 1 << 20}, "a kernel is 1048576; it must be 1 to 16384"),
        ("Conv", 2, {"kernel": 2, "dilation": 0}, "a dilation is 0"),
        ("Conv", 2, {"kernel": 2, "pads": [0, 0, -1, 0]}, "a padding is -1"),
        ("MaxPool", 1, {"kernel": 2, "pad": -1}, "a padding is -1"),
        ("MaxPool", 1, {"kernel": 5}, "a window of 5 does not fit X"),
    ],
)
def test_bad_arguments_are_refused(operator, inputs, arguments, message):
    arrays = [np.zeros((1, 1, 4, 4), np.float32)] * inputs
    with pytest.raises(RuntimeError, match=f"{operator}: {message}"):
        run_operator(operator, arrays, **arguments)


def test_a_parameter_must_be_updated_in_place():
    arrays = [np.zeros(size, np.float32) for size in (3, 3, 1, 3)]
    with pytest.raises(RuntimeError, match="MomentumSGDUpdate: .*in place|schema"):
        run_operator("MomentumSGDUpdate", arrays, 3)
