"""Clip and its gradient on all threads."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from native_runner import needs_native, run_operator, run_with_gradient

pytestmark = needs_native


@pytest.mark.parametrize(
    "arguments",
    [{"min": 0.0, "max": 6.0}, {"min": -1.0}, {"max": 2.0}, {}, {"min": 1.0, "max": 1.0}],
)
def test_clip_limits_values_and_passes_gradients_between_the_limits(arguments):
    random = np.random.RandomState(0)
    x = np.float32(4 * random.standard_normal((3, 5, 61, 41)))
    x[0, 0, 0, :4] = [0, 6, -1, 2]
    d_y = np.float32(random.standard_normal(x.shape))
    lowest, highest = arguments.get("min", -np.inf), arguments.get("max", np.inf)
    (y,), gradients = run_with_gradient("Clip", [x], d_y, **arguments)
    assert np.array_equal(y, np.clip(x, lowest, highest))
    assert np.array_equal(gradients[0], np.where((y > lowest) & (y < highest), d_y, 0))


def test_clip_works_in_place():
    x, d_y = np.float32([-1, 3, 8, 0, 6]), np.float32([1, 2, 3, 4, 5])
    workspace.ResetWorkspace()
    workspace.FeedBlob("x", x)
    workspace.FeedBlob("d", d_y)
    workspace.RunOperatorsOnce(
        [
            core.CreateOperator("Clip", ["x"], ["x"], min=0.0, max=6.0),
            core.CreateOperator("ClipGradient", ["x", "d"], ["d"], min=0.0, max=6.0),
        ]
    )
    assert np.array_equal(workspace.FetchBlob("x"), [0, 3, 6, 0, 6])
    assert np.array_equal(workspace.FetchBlob("d"), [0, 2, 0, 0, 0])


def test_a_nan_stays_and_infinities_are_limited():
    x = np.float32([np.nan, np.inf, -np.inf])
    (y,) = run_operator("Clip", [x], min=0.0, max=6.0)
    assert np.isnan(y[0]) and list(y[1:]) == [6, 0]


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1,), ()])
def test_clip_of_few_elements(shape):
    (y,), gradients = run_with_gradient("Clip", [np.full(shape, 7, np.float32)], min=0.0, max=6.0)
    assert np.array_equal(y, np.full(shape, 6)) and np.array_equal(gradients[0], np.zeros(shape))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(RuntimeError, match=r"ClipGradient: dY of shape \[5\] .* Y of shape \[6\]"):
        run_operator("ClipGradient", [np.zeros(6, np.float32), np.zeros(5, np.float32)])
