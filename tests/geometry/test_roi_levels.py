from __future__ import annotations

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.geometry.roi_levels import distribute_rois, roi_levels


def _squares(*sides):
    sides = np.array(sides, dtype=np.float32)
    return np.stack((0 * sides, 0 * sides, sides - 1, sides - 1), axis=1)


def test_a_side_of_the_canonical_scale_is_on_the_canonical_level():
    boxes = _squares(1, 111, 112, 223, 224, 447, 448, 5000)
    np.testing.assert_array_equal(roi_levels(boxes, configuration.load()), [2, 2, 3, 3, 4, 4, 5, 5])


def test_a_box_turned_inside_out_is_on_the_finest_level():
    assert roi_levels(np.array([[9, 9, 0, 0]], np.float32), configuration.load()) == 2


def test_regions_are_restored_from_the_concatenated_levels():
    rng = np.random.default_rng(0)
    sides = rng.uniform(5, 300, 40)  # none on P5
    rois = np.hstack((rng.integers(0, 2, (40, 1)), _squares(*sides))).astype(np.float32)
    blobs = distribute_rois(rois, configuration.load())
    levels = [blobs[f"rois_fpn{level}"] for level in range(2, 6)]
    assert levels[3].shape == (0, 5) and all(level.dtype == np.float32 for level in levels)
    np.testing.assert_array_equal(np.concatenate(levels)[blobs["rois_idx_restore_int32"]], rois)
    assert blobs["rois_idx_restore_int32"].dtype == np.int32
    for level, part in zip(range(2, 6), levels):
        expected = rois[roi_levels(rois[:, 1:], configuration.load()) == level]
        np.testing.assert_array_equal(part, expected)


def test_no_regions_give_empty_levels():
    blobs = distribute_rois(np.zeros((0, 5), np.float32), configuration.load())
    assert {blob.shape for blob in blobs.values()} == {(0, 5), (0,)}
