"""COCO average precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron_ext.errors import DatasetError
from detectron_ext.evaluation.coco_eval import METRICS, match_detections, summarise

NAMES = {1: "cat", 2: "dog"}


def ground_truth(annotations, num_images=3):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "width": 400, "height": 400} for i in range(1, num_images + 1)],
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def truth(number, image, category, box, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


def found(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def score(coco, detections):
    return summarise(match_detections(coco, detections))


@pytest.fixture
def simple():
    # No area, no iscrowd; image 3 has nothing; id 0, which COCOeval by itself would never match.
    return ground_truth(
        [
            truth(0, 1, 1, [10, 10, 20, 20]),
            truth(1, 1, 2, [100, 100, 50, 50]),
            truth(2, 2, 1, [50, 50, 50, 60]),
        ]
    )


def perfect(coco):
    return [found(a["image_id"], a["category_id"], a["bbox"], 0.9) for a in coco.anns.values()]


def test_perfect_detections_score_one(simple):
    results = score(simple, perfect(simple))
    assert [results[key] for key in ("AP", "AP50", "APs", "APm")] == pytest.approx([1] * 4)
    assert results["APl"] is None
    assert results["per_class"] == {"cat": pytest.approx(1), "dog": pytest.approx(1)}
    assert results["num_images"] == 3 and results["num_detections"] == 3


def test_no_detections_score_zero(simple):
    results = score(simple, [])
    assert results["AP"] == results["AP50"] == results["APm"] == 0
    assert results["per_class"] == results["per_class_AP50"] == {"cat": 0, "dog": 0}


def test_no_annotations_leave_every_score_undefined():
    results = score(ground_truth([]), [found(1, 1, [0, 0, 5, 5], 0.5)])
    assert all(results[key] is None for key in METRICS)
    assert results["per_class"] == {"cat": None, "dog": None}


def test_false_detection_in_an_empty_image_counts(simple):
    wrong = [found(3, 1, [10, 10, 20, 20], 0.99)]
    results = score(simple, perfect(simple) + wrong)
    # First of three ranked cats is false: precision 1/2, then 2/3 at full recall, so 2/3.
    assert results["per_class_AP50"]["cat"] == pytest.approx(2 / 3)
    assert results["per_class_AP50"]["dog"] == pytest.approx(1)


def test_overlap_of_two_thirds_counts_for_ap50_but_not_for_ap75(simple):
    shifted = [found(1, 2, [110, 100, 50, 50], 0.9)]  # IoU 40 / 60
    results = score(simple, shifted)
    assert results["per_class_AP50"] == {"cat": 0, "dog": pytest.approx(1)}
    assert results["per_class"] == {"cat": 0, "dog": pytest.approx(0.4)}
    assert results["AP75"] == 0


def test_detections_of_a_class_that_the_ground_truth_lacks_are_left_out(simple):
    strange = [found(1, 3, [10, 10, 20, 20], 0.99)]
    assert score(simple, strange + perfect(simple)) == score(simple, perfect(simple))


def test_crowd_neither_helps_nor_harms():
    coco = ground_truth(
        [truth(1, 1, 1, [0, 0, 40, 40]), truth(2, 1, 1, [100, 100, 200, 200], iscrowd=1)]
    )
    found_in_crowd = [found(1, 1, [120, 120, 50, 50], 0.99), found(1, 1, [0, 0, 40, 40], 0.5)]
    assert score(coco, found_in_crowd)["AP"] == pytest.approx(1)


def test_only_100_detections_of_an_image_and_class_count(simple):
    wrong = [found(1, 1, [200, 200, 30, 30], 0.95)] * 100
    results = score(simple, [*wrong, *perfect(simple)])
    # In image 1 the false cats take every place; the cat of image 2, number 101 of all by its
    # score, remains: recall 1/2. The dog is of another class.
    assert results["per_class_AP50"]["cat"] == pytest.approx(1 / 101 * 51 / 101)
    assert results["per_class_AP50"]["dog"] == pytest.approx(1)


def test_scores_equal_pycocotools_and_inputs_are_not_changed(capsys):
    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for number in range(1, 121):
        box = [*rng.uniform(0, 200, 2), *np.exp(rng.uniform(2, 5.2, 2))]
        image, category = int(rng.integers(1, 13)), int(rng.integers(1, 3))
        more = {"area": box[2] * box[3] * 0.7, "iscrowd": int(rng.random() < 0.05)}
        annotations.append(truth(number, image, category, box, **more))
        near = [float(v + rng.normal() * 4) for v in box]
        near[2:] = [max(v, 1.0) for v in near[2:]]
        detections.append(found(image, category, near, float(rng.random())))
    coco = ground_truth(annotations, num_images=12)
    before = copy.deepcopy((coco.dataset, detections))
    capsys.readouterr()
    results = score(coco, detections)
    assert capsys.readouterr().out == ""
    assert (coco.dataset, detections) == before
    oracle = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
    oracle.evaluate()
    oracle.accumulate()
    oracle.summarize()
    np.testing.assert_allclose([results[key] for key in METRICS], oracle.stats[:6], rtol=1e-12)
    assert 0.1 < results["AP"] < 0.95
    assert np.mean(list(results["per_class"].values())) == pytest.approx(results["AP"])


def test_detection_in_an_unknown_image_is_named(simple):
    with pytest.raises(DatasetError, match="image 77"):
        score(simple, [found(77, 1, [0, 0, 5, 5], 0.5)])
