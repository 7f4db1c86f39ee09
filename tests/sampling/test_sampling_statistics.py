from __future__ import annotations

import numpy as np
import pytest

from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.sampling_statistics import count_samples, summarise_counts


def test_bins_include_their_lower_edge_and_exclude_their_upper_edge():
    overlaps = np.array([0.0, 0.1, 0.19, 0.2, 0.3, 0.4, 0.9], np.float32)
    np.testing.assert_array_equal(iou_bins(overlaps, 0.1, 0.4, 3), [-1, 0, 0, 1, 2, 3, 3])


@pytest.mark.parametrize("num_bins", [126, 127, 128, 40_000])
def test_any_number_of_bins_fits(num_bins):
    overlaps = np.array([-0.1, 0.0, 0.9999999, 1.0])
    expected = [-1, 0, num_bins - 1, num_bins]
    np.testing.assert_array_equal(iou_bins(overlaps, 0.0, 1.0, num_bins), expected)
    counts = count_samples(overlaps, np.arange(0), 0, upper=1.0, num_bins=num_bins)
    assert counts[0] == counts[num_bins - 1] == 1 and counts[num_bins] == 4


def _count(overlaps, instances, num_instances, **options):
    arrays = np.array(overlaps, np.float32), np.array(instances, np.int64)
    return count_samples(*arrays, num_instances, upper=0.4, num_bins=2, **options)


def test_counts_of_images_add_up_to_the_statistics_of_all_images():
    one = _count([0.0, 0.1, 0.1, 0.3], [0, 0, 0, 2], 3)
    other = _count([0.35, 0.35, 0.35, 0.35], [0, 0], 1)
    np.testing.assert_array_equal(one, [3, 1, 4, 4, 10, 3, 1, 1])
    figures = summarise_counts("roi", one + other)
    per_instance = [3, 0, 1, 2]
    assert figures == pytest.approx(
        {
            "roi_negative_share_bin0": 3 / 8,
            "roi_negative_share_bin1": 5 / 8,
            "roi_positives_per_instance": np.mean(per_instance),
            "roi_positives_per_instance_std": np.std(per_instance),
            "roi_instances_without_positives": 1 / 4,
            "roi_positives_per_image": 6 / 2,
            "roi_negatives_per_image": 8 / 2,
        }
    )


def test_negatives_below_the_floor_count_only_in_the_total():
    counts = _count([0.0, 0.0, 0.1, 0.3], [], 0, floor_thresh=0.1)
    np.testing.assert_array_equal(counts[:3], [1, 1, 4])


def test_weighted_negatives_count_by_weight():
    counts = _count([0.0, 0.0, 0.3], [0], 1, weights=np.array([0.5, 0.5, 2.0]))
    np.testing.assert_array_equal(counts, [1, 2, 3, 1, 1, 1, 0, 1])


def test_statistics_without_samples_are_left_out():
    always = {"rpn_positives_per_image": 0, "rpn_negatives_per_image": 0}
    assert summarise_counts("rpn", _count([], [], 0)) == always
    assert summarise_counts("rpn", _count([], [], 2)) == {
        **always,
        "rpn_positives_per_instance": 0,
        "rpn_positives_per_instance_std": 0,
        "rpn_instances_without_positives": 1,
    }
    assert summarise_counts("rpn", _count([0.1], [], 0))["rpn_negative_share_bin0"] == 1
