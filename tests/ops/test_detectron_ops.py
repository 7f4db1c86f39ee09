"""Detectron's operators on the CPU: those without a front-end, and edge cases of all."""

from __future__ import annotations

import numpy as np
import pytest
from map_cases import ROIS
from native_runner import assert_close, needs_native, normal, run_with_gradient

from detectron_ext.ops import reference

pytestmark = needs_native


def test_extreme_logits_stay_finite():
    logits = np.array([-200, -100, -50, 0, 50, 100, 200], np.float32).reshape(1, 1, 1, 7)
    for label in (0, 1):
        labels = np.full((1, 1, 1, 7), label, np.int32)
        (loss,), gradients = run_with_gradient(
            "SigmoidFocalLoss", [logits, labels, np.zeros(1, np.float32)], num_classes=1, gamma=2.0
        )
        assert np.isfinite(loss) and np.isfinite(gradients[0]).all()
    (loss,), gradients = run_with_gradient("SigmoidCrossEntropyLoss", [logits, labels])
    assert np.isfinite(loss) and np.isfinite(gradients[0]).all()


def test_a_place_selected_twice_counts_twice():
    y_hat = np.full((1, 4, 1, 1), 3.0, np.float32)
    rows = np.zeros((2, 4), np.float32)
    inputs = [y_hat, np.zeros((2, 4), np.float32), rows, np.ones(1, np.float32)]
    (loss,), gradients = run_with_gradient("SelectSmoothL1Loss", inputs)
    assert loss == pytest.approx(2 * 4 * 2.5)
    assert np.array_equal(gradients[0].ravel(), [2, 2, 2, 2])


def test_a_corner_just_below_half_a_cell_belongs_to_the_cell_before():
    x = -np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    half = np.nextafter(np.float32(8), np.float32(0))  # as a float32, half a cell more is a whole
    rois = np.array([[0, half, half, 40, 40]], np.float32)
    arguments = {"pooled_h": 1, "pooled_w": 1, "spatial_scale": 1 / 16}
    (maximum, argmax), _ = run_with_gradient("RoIPoolF", [x, rois], outputs=2, **arguments)
    expected = reference.roi_max_pool(x, rois, **arguments)
    assert maximum.item() == expected[0].item() == 0
    assert argmax.item() == expected[1].item() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("b_shape", [(2, 3, 4, 5), (2, 4, 5), (2, 6, 7), (2, 0, 5)])
def test_spatial_narrow_as_cuts_the_map_and_its_gradient(dtype, b_shape):
    random = np.random.RandomState(5)
    a = random.randint(-9, 9, (2, 3, 6, 7)).astype(dtype)
    height, width = b_shape[-2:]
    d_c = random.randint(-9, 9, (2, 3, height, width)).astype(dtype)
    (c,), gradients = run_with_gradient("SpatialNarrowAs", [a, np.zeros(b_shape, dtype)], d_c)
    expected = np.zeros_like(a)
    expected[:, :, :height, :width] = d_c
    assert np.array_equal(c, a[:, :, :height, :width])
    assert np.array_equal(gradients[0], expected)


@pytest.mark.parametrize("labels", [[1, 0, -1, 80], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_sample_as_keeps_the_rows_with_positive_labels(labels):
    random = np.random.RandomState(6)
    x, labels = normal(random, 4, 3, 2), np.array(labels, np.int32)
    d_y = normal(random, (labels > 0).sum(), 3, 2)
    (y,), gradients = run_with_gradient("SampleAs", [x, labels], d_y)
    expected = np.zeros_like(x)
    expected[labels > 0] = d_y
    assert np.array_equal(y, x[labels > 0])
    assert np.array_equal(gradients[0], expected)


def test_the_first_of_equal_maxima_gets_the_gradient():
    random = np.random.RandomState(7)
    x = random.randint(-3, 3, (2, 3, 10, 14)).astype(np.float32)
    d_y = normal(random, len(ROIS), 3, 2, 3)
    arguments = {"pooled_h": 2, "pooled_w": 3, "spatial_scale": 0.5}
    (y, argmax), gradients = run_with_gradient("RoIPoolF", [x, ROIS], d_y, outputs=2, **arguments)
    expected, expected_argmax = reference.roi_max_pool(x, ROIS, **arguments)
    assert np.array_equal(y, expected)
    assert np.array_equal(argmax, expected_argmax)
    assert (argmax[-1] == -1).all()
    assert_close(gradients[0], reference.roi_max_pool_gradient(x, ROIS, argmax, d_y))


def mean_bins(roi, scale, bins, size):
    """Return the rows or columns of each bin of PSRoIPool between two corners."""
    low, high = (np.floor(abs(v) + 0.5) * np.sign(v) for v in roi)
    start = np.float32(low) * np.float32(scale)
    step = np.float32(max(np.float32(high + 1) * np.float32(scale) - start, 0.1)) / np.float32(bins)
    return [
        (
            int(np.clip(np.floor(np.float32(i) * step + start), 0, size)),
            int(np.clip(np.ceil(np.float32(i + 1) * step + start), 0, size)),
        )
        for i in range(bins)
    ]


def test_position_sensitive_roi_pool_equals_the_definition():
    random = np.random.RandomState(8)
    x, scale = normal(random, 2, 13, 10, 14), 0.5  # one channel more than is read
    d_y = normal(random, len(ROIS), 3, 2, 2)
    expected, d_x = np.zeros(d_y.shape), np.zeros(x.shape)
    for r, (image, x1, y1, x2, y2) in enumerate(ROIS):
        for i, (top, bottom) in enumerate(mean_bins((y1, y2), scale, 2, 10)):
            for j, (left, right) in enumerate(mean_bins((x1, x2), scale, 2, 14)):
                for o in range(3):
                    window = (int(image), o * 4 + i * 2 + j, slice(top, bottom), slice(left, right))
                    if x[window].size:
                        expected[r, o, i, j] = x[window].astype(np.float64).mean()
                        d_x[window] += d_y[r, o, i, j] / x[window].size
    (y, channels), gradients = run_with_gradient(
        "PSRoIPool", [x, ROIS], d_y, outputs=2, spatial_scale=scale, group_size=2, output_dim=3
    )
    assert_close(y, expected)
    assert np.array_equal(channels[0].ravel(), np.arange(12))
    assert_close(gradients[0], d_x)


@pytest.mark.parametrize(
    ("operator", "arguments", "channels"),
    [
        ("RoIPoolF", {"pooled_h": 2, "pooled_w": 2}, 3),
        ("PSRoIPool", {"group_size": 2, "output_dim": 3}, 3),
    ],
)
def test_no_rois_give_no_features(operator, arguments, channels):
    x = np.ones((1, 12 if operator == "PSRoIPool" else 3, 4, 4), np.float32)
    (y, _), gradients = run_with_gradient(
        operator, [x, np.zeros((0, 5), np.float32)], outputs=2, **arguments
    )
    assert y.shape == (0, channels, 2, 2)
    assert np.array_equal(gradients[0], np.zeros_like(x))
