"""Average precision of resampled images."""

from __future__ import annotations

import contextlib
import io
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_scenes import part, scene

from detectron_ext.evaluation import matches
from detectron_ext.evaluation.average_precision import resampled_average_precision
from detectron_ext.evaluation.coco_eval import METRICS, match_detections, summarise
from detectron_ext.evaluation.matches import ClassMatches, Matches, collect_matches
from detectron_ext.evaluation.operating_points import merged, resampled_points, scored_boxes


def _resampled(coco, detections, weights):
    found = collect_matches(match_detections(coco, detections))
    return resampled_average_precision(found, np.asarray(weights))


def _numbers(results):
    return [np.nan if results[name] is None else results[name] for name in METRICS]


@pytest.mark.parametrize("seed", range(8))
def test_counting_every_image_once_equals_pycocotools_exactly(seed):
    coco, detections = scene(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        for index, annotations in ((truth, coco.dataset["annotations"]), (found, detections)):
            filled = [
                {"iscrowd": 0, **a, "id": n, "area": a["bbox"][2] * a["bbox"][3]}
                for n, a in enumerate(annotations, start=1)
            ]
            index.dataset = {**coco.dataset, "annotations": filled}
            index.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = _resampled(coco, detections, np.ones((2, 12), int))
    theirs = [np.nan if value == -1 else value for value in evaluation.stats[:6]]
    for row in range(2):
        np.testing.assert_array_equal([ours[name][row] for name in METRICS], theirs)
    np.testing.assert_array_equal(_numbers(summarise(match_detections(coco, detections))), theirs)


@pytest.mark.parametrize("seed", range(8))
def test_an_image_that_counts_zero_times_has_no_effect(seed):
    coco, detections = scene(seed)
    weights = np.random.default_rng(seed).integers(0, 2, (6, 12))
    weights[0] = 0  # a resample of nothing
    ours = _resampled(coco, detections, weights)
    for row, chosen in enumerate(weights):
        ids = {image for image, weight in enumerate(chosen, start=1) if weight}
        expected = _numbers(summarise(match_detections(*part(coco, detections, ids))))
        np.testing.assert_array_equal([ours[name][row] for name in METRICS], expected)


def test_an_image_that_counts_twice_counts_twice():
    coco, detections = scene(3, num_images=2)
    coco.dataset["annotations"] = [
        {"id": i, "image_id": i, "category_id": 3, "bbox": [0, 0, 50, 50], "iscrowd": 0}
        for i in (1, 2)
    ]
    coco.createIndex()
    detections = [{"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 50], "score": 0.5}]
    ours = _resampled(coco, detections, [[1, 1], [1, 2], [1, 3], [2, 1]])
    # Recall reaches 1/2, 2/3, 3/4 and 1/3 at precision 1: of 101 recalls 51, 67, 76 and 34.
    np.testing.assert_allclose(ours["AP50"], np.array([51, 67, 76, 34]) / 101)


def test_the_number_of_resamples_at_a_time_does_not_change_results(monkeypatch):
    coco, detections = scene(5)
    weights = np.random.default_rng(0).integers(0, 3, (7, 12))
    matched = match_detections(coco, detections)
    boxes = merged(scored_boxes(collect_matches(matched)))
    whole = _resampled(coco, detections, weights), resampled_points(boxes, weights)
    monkeypatch.setattr(matches, "_MOST_ENTRIES", 2 * len(detections))
    for before, after in zip(whole, (_resampled(coco, detections, weights),
                                     resampled_points(boxes, weights))):  # fmt: skip
        for name, values in before.items():
            np.testing.assert_array_equal(after[name], values)


def test_no_detections_score_zero():
    coco, _ = scene(0)
    assert _resampled(coco, [], np.ones((1, 12), int))["AP"] == 0


def test_memory_does_not_grow_with_classes_times_resamples():
    """The tables of all resamples together would take 310 MB here, the detections very little."""
    one = ClassMatches(
        np.zeros(1, np.int64), np.ones(1), np.ones((10, 1), bool), np.zeros((10, 1), bool),
        np.ones(2, np.int64), np.zeros(1, np.int64),
    )  # fmt: skip
    found = Matches([1, 2], [str(number) for number in range(40)], [[one] * 40] * 4)
    tracemalloc.start()
    try:
        resampled_average_precision(found, np.ones((240, 2), np.int64))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
