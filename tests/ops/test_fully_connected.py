"""FC on the CPU against float64 products, at sizes near those of its tiles and blocks."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from native_runner import assert_close, needs_native, normal, run_operator, run_with_gradient

pytestmark = needs_native


@pytest.mark.parametrize(
    "m, n, k",
    [(1, 1, 1), (7, 4, 3), (8, 48, 16), (9, 49, 513), (300, 100, 70), (40, 200, 1100), (0, 5, 4)],
)
def test_equals_the_definition_forward_and_backward(m, n, k):
    random = np.random.RandomState(0)
    x, w, b, d_y = (normal(random, *shape) for shape in [(m, k), (n, k), (n,), (m, n)])
    (y,), gradients = run_with_gradient("FC", [x, w, b], d_y)
    x, w, d_y = (array.astype(np.float64) for array in (x, w, d_y))
    assert_close(y, x @ w.T + b)
    for actual, expected in zip(gradients.values(), (d_y @ w, d_y.T @ x, d_y.sum(axis=0))):
        assert_close(actual, expected)
    assert sorted(gradients) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [{}, {"axis": 2}, {"axis": -1}])
def test_trailing_dimensions_count_as_one(arguments):
    random = np.random.RandomState(1)
    x = normal(random, 5, 3, 4)
    depth = 12 if not arguments else 4
    w, b = normal(random, 6, depth), normal(random, 6)
    (y,), gradients = run_with_gradient("FC", [x, w, b], **arguments)
    assert_close(y, x.reshape(*x.shape[: x.ndim - (2 if depth == 12 else 1)], depth) @ w.T + b)
    assert gradients[0].shape == x.shape


def test_weights_may_have_the_shape_of_the_features():
    random = np.random.RandomState(2)
    x, w, b = normal(random, 5, 3, 2, 2), normal(random, 6, 3, 2, 2), normal(random, 6)
    (y,), gradients = run_with_gradient("FC", [x, w, b])
    assert_close(y, x.reshape(5, 12) @ w.reshape(6, 12).T + b)
    assert gradients[1].shape == w.shape


def test_the_gradient_of_the_input_can_be_left_out():
    random = np.random.RandomState(3)
    arrays = {"x": normal(random, 5, 3), "w": normal(random, 4, 3), "dy": normal(random, 5, 4)}
    workspace.ResetWorkspace()
    for name, array in arrays.items():
        workspace.FeedBlob(name, array)
    workspace.RunOperatorOnce(core.CreateOperator("FCGradient", ["x", "w", "dy"], ["dw", "db"]))
    assert_close(workspace.FetchBlob("dw"), arrays["dy"].T @ arrays["x"])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(5, 3), (4, 2), (4,)], r"W of shape \[4, 2\].*X of shape \[5, 3\]"),
        ([(5, 3), (4, 3), (3,)], r"b of shape \[3\].*W of shape \[4, 3\]"),
        ([(5, 3), (4, 3), (5, 3)], r"dY of shape \[5, 3\].*X of shape \[5, 3\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    operator, outputs = ("FCGradient", 3) if message.startswith("dY") else ("FC", 1)
    with pytest.raises(RuntimeError, match=f"{operator}: {message}"):
        run_operator(operator, [np.zeros(shape, np.float32) for shape in shapes], outputs)
