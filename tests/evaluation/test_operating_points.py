"""Precision and recall of boxes and concepts, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.coco import COCO
from random_scenes import part, scene

from detectron_ext.evaluation.coco_eval import match_detections
from detectron_ext.evaluation.matches import collect_matches
from detectron_ext.evaluation.operating_points import (
    merged,
    resampled_points,
    scored_boxes,
    scored_concepts,
    summarise_points,
)
from detectron_ext.evaluation.scores import score_detections

_NAMES = {1: "cat", 2: "dog"}
_A, _B, _FAR = [0, 0, 40, 40], [100, 100, 40, 40], [200, 200, 40, 40]


def _coco(annotations, num_images=3):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "width": 400, "height": 400} for i in range(1, num_images + 1)],
        "categories": [{"id": i, "name": name} for i, name in _NAMES.items()],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            for n, (image, category, box, crowd) in enumerate(annotations)
        ],
    }
    coco.createIndex()
    return coco


def _found(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


@pytest.fixture
def results():
    truth = [(1, 1, _A, 0), (1, 1, _B, 0), (2, 2, _A, 0), (3, 1, _A, 1)]
    detections = [
        _found(1, 1, _A, 0.9),
        _found(1, 1, [2, 0, 40, 40], 0.8),  # the object is taken: wrong
        _found(1, 2, _B, 0.7),  # the wrong class
        _found(1, 1, _B, 0.6),
        _found(2, 2, [15, 0, 40, 40], 0.55),  # IoU 25/55: too little
        _found(2, 2, _A, 0.3),  # below the threshold
        _found(3, 1, _A, 0.95),  # a crowd: neither right nor wrong
        _found(3, 2, _FAR, 0.5),  # nothing there; 0.5 is not below 0.5
    ]
    return score_detections(_coco(truth), detections)


def test_precision_recall_and_f1_of_boxes(results):
    box = results["box"]
    # Right: two cats of image 1. Wrong: its second cat, its dog, the dogs of images 2 and 3.
    assert (box["precision"], box["recall"]) == (pytest.approx(2 / 6), pytest.approx(2 / 3))
    assert box["f1"] == pytest.approx(2 * 2 / (6 + 3))
    assert box["per_class"]["cat"]["precision"] == pytest.approx(2 / 3)
    assert box["per_class"]["cat"]["recall"] == 1
    assert box["per_class"]["dog"] == {
        "precision": 0, "recall": 0, "f1": 0, "best_f1": pytest.approx(2 / 5),
        "best_threshold": 0.3,
    }  # fmt: skip
    # At 0.6 two of four are right, F1 4/7; at 0.3 all three of seven, F1 6/10.
    assert (box["best_f1"], box["best_threshold"]) == (pytest.approx(6 / 10), 0.3)


def test_precision_recall_and_f1_of_concepts(results):
    concept = results["concept"]
    # Said: cat and dog of image 1, dog of 2, dog of 3. So: cat of 1, dog of 2. The crowd's cat is
    # neither, and the box of image 2 need not fit.
    assert (concept["precision"], concept["recall"]) == (pytest.approx(2 / 4), 1)
    assert concept["per_class"]["cat"]["precision"] == 1
    assert concept["per_class"]["dog"]["precision"] == pytest.approx(1 / 3)
    # The cat at 0.9 alone: 2/3; with the dogs at 0.7 and 0.55: 2 * 2 / (3 + 2).
    assert (concept["best_f1"], concept["best_threshold"]) == (pytest.approx(4 / 5), 0.55)


def test_the_sweep_has_the_scores_at_each_threshold(results):
    for kind in ("box", "concept"):
        sweep = results[kind]["sweep"]
        assert sweep["threshold"][9] == 0.5
        for key in ("precision", "recall", "f1"):
            assert len(sweep[key]) == len(sweep["threshold"]) == 19
            assert sweep[key][9] == results[kind][key]
    # Nothing reaches 0.95 but the crowd, which does not count.
    assert results["box"]["sweep"]["precision"][18] is None
    assert results["box"]["sweep"]["recall"][18] == 0


def test_precision_without_detections_and_recall_without_objects_are_undefined():
    nothing_found = score_detections(_coco([(1, 1, _A, 0)]), [])
    nothing_there = score_detections(_coco([]), [_found(1, 1, _A, 0.9)])
    neither = score_detections(_coco([]), [])
    for kind in ("box", "concept"):
        for results, expected in (
            (nothing_found, (None, 0, 0)), (nothing_there, (0, None, 0)), (neither, (None,) * 3),
        ):  # fmt: skip
            assert tuple(results[kind][key] for key in ("precision", "recall", "f1")) == expected


def test_scores_without_classes_or_images_are_undefined():
    for missing in ("categories", "images"):
        coco = _coco([])
        coco.dataset[missing] = []
        coco.createIndex()
        results = score_detections(coco, [])
        assert results["AP"] is results["box"]["recall"] is results["concept"]["best_f1"] is None
        assert results["num_images"] == (3 if missing == "categories" else 0)


def test_detections_of_equal_scores_pass_a_threshold_together():
    truth = [(1, 1, _A, 0), (1, 1, _B, 0)]
    detections = [_found(1, 1, box, 0.7) for box in (_A, _B, _FAR)]
    box = score_detections(_coco(truth), detections)["box"]
    assert (box["best_f1"], box["best_threshold"]) == (pytest.approx(4 / 5), 0.7)


def test_classes_of_the_same_name_are_scored_separately():
    coco = _coco([(1, 1, _A, 0), (1, 2, _B, 0), (2, 1, _A, 0), (2, 3, _A, 0)])
    names = {1: "other", 2: "other", 3: "other (2)"}
    coco.dataset["categories"] = [{"id": i, "name": name} for i, name in names.items()]
    coco.createIndex()
    results = score_detections(coco, [_found(1, 1, _A, 0.9), _found(2, 1, _A, 0.9)])
    expected = {"other": 1, "other (2)": 0, "other (2) (3)": 0}
    assert results["per_class"] == pytest.approx(expected)
    for kind in ("box", "concept"):
        assert list(results[kind]["per_class"]) == list(expected)
        assert (results[kind]["precision"], results[kind]["recall"]) == (1, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_resampling_equals_repeating_images(seed):
    coco, detections = scene(seed)
    weights = np.random.default_rng(seed).integers(0, 2, (4, 12))
    for kind, scored in _scored(coco, detections).items():
        once, twice = (resampled_points(merged(scored), w * weights, 0.4) for w in (1, 2))
        for name, values in once.items():
            np.testing.assert_allclose(twice[name], values)
        for row, chosen in enumerate(weights):
            ids = {image for image, weight in enumerate(chosen, start=1) if weight}
            expected = summarise_points(_scored(*part(coco, detections, ids))[kind], 0.4)
            # Equal F1 may be reached at several thresholds.
            for name in once.keys() - {"best_threshold"}:
                value = np.nan if expected[name] is None else expected[name]
                np.testing.assert_allclose(once[name][row], value)


def _scored(coco, detections) -> dict:
    matched = match_detections(coco, detections)
    return {
        "box": scored_boxes(collect_matches(matched)),
        "concept": scored_concepts(coco, detections, matched.class_names),
    }
