"""RoIAlign on the CPU against its definition, sample by sample, and against Caffe2's own."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace
from native_runner import assert_close, needs_native, normal, run_operator, run_with_gradient

pytestmark = needs_native

ROIS = np.array(
    [
        [0, 0, 0, 27, 19],
        [1, 4.6, 7.4, 13.2, 12.9],
        [1, -30, -20, 6, 5],
        [0, 8, 8, 8, 8],
        [1, 24, 16, 60, 40],  # reaches out of the map
        [0, 90, 90, 95, 95],  # lies outside of it
    ],
    np.float32,
)


def _sample_weights(at: float, size: int) -> dict:
    """Return the weight of each cell in a bilinear sample on one axis; {} outside the map."""
    if at < -1 or at > size:
        return {}
    at = min(max(at, 0.0), size - 1.0)
    cell = int(at)
    weights = {cell: 1.0 - (at - cell)}
    if at > cell:
        weights[cell + 1] = at - cell
    return weights


def _cell_weights(shape, roi, bins, scale, sampling_ratio, aligned):
    """Return the weights [bin row, bin column, row, column] of the means of the bins' samples."""
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = roi[1:].astype(np.float64) * scale - offset
    sides = [y2 - y1, x2 - x1] if aligned else [max(y2 - y1, 1.0), max(x2 - x1, 1.0)]
    steps = [side / count for side, count in zip(sides, bins)]
    counts = [sampling_ratio or int(np.ceil(step)) for step in steps]
    weights = np.zeros((*bins, *shape))
    for i, j, s, t in np.ndindex(*bins, *counts):
        y = y1 + (i + (s + 0.5) / counts[0]) * steps[0]
        x = x1 + (j + (t + 0.5) / counts[1]) * steps[1]
        for row, row_weight in _sample_weights(y, shape[0]).items():
            for column, column_weight in _sample_weights(x, shape[1]).items():
                weights[i, j, row, column] += row_weight * column_weight / (counts[0] * counts[1])
    return weights


@pytest.mark.parametrize("sampling_ratio", [0, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("bins", [(7, 7), (2, 3)])
def test_equals_the_definition_forward_and_backward(sampling_ratio, aligned, bins):
    random = np.random.RandomState(0)
    x, d_y = normal(random, 2, 5, 10, 14), normal(random, len(ROIS), 5, *bins)
    (y,), gradients = run_with_gradient(
        "RoIAlign", [x, ROIS], d_y, pooled_h=bins[0], pooled_w=bins[1], spatial_scale=0.5,
        sampling_ratio=sampling_ratio, aligned=int(aligned),
    )  # fmt: skip
    expected, d_x = np.zeros(d_y.shape), np.zeros(x.shape)
    for r, roi in enumerate(ROIS):
        weights = _cell_weights(x.shape[2:], roi, bins, 0.5, sampling_ratio, aligned)
        image = int(roi[0])
        expected[r] = np.einsum("ijyx,cyx->cij", weights, x[image])
        d_x[image] += np.einsum("ijyx,cij->cyx", weights, d_y[r])
    assert_close(y, expected)
    assert_close(gradients[0], d_x)


def test_the_image_may_be_left_out():
    random = np.random.RandomState(1)
    x = normal(random, 1, 3, 10, 14)
    rois = ROIS[:2] * np.float32([0, 1, 1, 1, 1])
    arguments = {"pooled_h": 3, "pooled_w": 3, "spatial_scale": 0.5, "sampling_ratio": 2}
    (with_image,) = run_operator("RoIAlign", [x, rois], **arguments)
    (without,) = run_operator("RoIAlign", [x, rois[:, 1:]], **arguments)
    assert np.array_equal(with_image, without)


@pytest.mark.parametrize("order", ["NHWC", "nhwc"])
def test_maps_with_channels_last_give_the_same_features(order):
    x = normal(np.random.RandomState(2), 2, 3, 10, 14)
    arguments = {"pooled_h": 2, "pooled_w": 2, "spatial_scale": 0.5, "sampling_ratio": 2}
    (y,) = run_operator("RoIAlign", [x, ROIS], **arguments)
    (last,) = run_operator("RoIAlign", [x.transpose(0, 2, 3, 1), ROIS], order=order, **arguments)
    assert_close(last.transpose(0, 3, 1, 2), y)


def test_no_regions_give_no_features_and_a_zero_gradient():
    x = normal(np.random.RandomState(3), 1, 3, 4, 5)
    (y,), gradients = run_with_gradient("RoIAlign", [x, ROIS[:0]], pooled_h=7, pooled_w=7)
    assert y.shape == (0, 3, 7, 7)
    assert np.array_equal(gradients[0], np.zeros_like(x))


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        (np.zeros((1, 6), np.float32), r"RoIs of shape \[1, 6\]"),
        (np.float32([[0, 0, 0, 5, 5], [2, 0, 0, 5, 5]]), "row 1 of RoIs"),
        (np.float32([[0, np.nan, 0, 5, 5]]), "row 0 of RoIs"),
        (np.float32([[0, 0, 0, 5, 9e5]]), "row 0 of RoIs"),  # times 2 too far for cells
    ],
)
def test_unusable_regions_are_refused(rois, message):
    x = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(RuntimeError, match="RoIAlign: " + message):
        run_operator("RoIAlign", [x, rois], pooled_h=2, pooled_w=2, spatial_scale=2.0)


@pytest.mark.parametrize("shape", [(1, 2, 0, 4), (1, 2, 4, 0), (2, 4, 4)])
def test_maps_without_cells_are_refused(shape):
    with pytest.raises(RuntimeError, match="RoIAlign: X of shape .* positive H and W"):
        run_operator("RoIAlign", [np.zeros(shape, np.float32), ROIS[:1]])


@pytest.mark.parametrize(
    "arguments",
    [{"spatial_scale": 0.0}, {"spatial_scale": float("inf")}, {"pooled_h": 0}, {"pooled_w": -1}],
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(RuntimeError, match=f"RoIAlign: .*{next(iter(arguments))} is"):
        run_operator("RoIAlign", [np.zeros((1, 1, 4, 4), np.float32), ROIS[:1]], **arguments)


def test_a_gradient_of_another_shape_is_refused():
    workspace.ResetWorkspace()
    arrays = {"x": np.zeros((1, 2, 4, 4)), "rois": ROIS[:1], "dy": np.zeros((1, 2, 3, 3))}
    for name, array in arrays.items():
        workspace.FeedBlob(name, array.astype(np.float32))
    operator = core.CreateOperator(
        "RoIAlignGradient", ["x", "rois", "dy"], ["dx"], pooled_h=2, pooled_w=2
    )
    with pytest.raises(RuntimeError, match=r"dY of shape \[1, 2, 3, 3\]"):
        workspace.RunOperatorOnce(operator)
