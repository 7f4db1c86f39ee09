"""COCO average recall of proposals."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.coco import COCO

from detectron_ext.evaluation.proposal_recall import evaluate_proposals


def _truth(*annotations, num_images=2):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n, "width": 400, "height": 400} for n in range(1, num_images + 1)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, **more}
            for n, (image, category, box, more) in enumerate(annotations)
        ],
    }
    coco.createIndex()
    return coco


_SMALL = (1, 3, [10, 10, 20, 20], {})
_LARGE = (2, 8, [100, 100, 150, 150], {})


def _proposals(*boxes, image=1):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return image, boxes, np.linspace(1, 0.5, len(boxes), dtype=np.float32)


def test_recall_does_not_depend_on_classes():
    found = [_proposals([10, 10, 29, 29]), _proposals([0, 0, 9, 9], image=2)]
    results = evaluate_proposals(_truth(_SMALL, _LARGE), found)
    assert results["AR@100"] == results["AR@1000"] == pytest.approx(0.5)
    assert (results["ARs@100"], results["ARl@100"]) == (pytest.approx(1), pytest.approx(0))
    assert results["ARm@100"] is None
    assert (results["num_images"], results["num_proposals"]) == (2, 2)


def test_recall_is_the_mean_over_ten_thresholds():
    # 14 of 20 columns: an overlap of 0.7, reached by the thresholds 0.5 to 0.7.
    results = evaluate_proposals(_truth(_SMALL), [_proposals([10, 10, 23, 29])])
    assert results["AR@100"] == pytest.approx(0.5)


def test_only_the_best_100_proposals_count_for_ar_100():
    misses = [[200 + n, 200, 250 + n, 250] for n in range(100)]
    results = evaluate_proposals(_truth(_SMALL), [_proposals(*misses, [10, 10, 29, 29])])
    assert results["AR@100"] == pytest.approx(0) and results["AR@1000"] == pytest.approx(1)


def test_crowds_do_not_count_and_images_may_lack_proposals():
    crowd = (1, 3, [200, 200, 50, 50], {"iscrowd": 1})
    results = evaluate_proposals(_truth(_SMALL, crowd), [_proposals([10, 10, 29, 29])])
    assert results["AR@100"] == pytest.approx(1)
    assert evaluate_proposals(_truth(_SMALL), [])["AR@100"] == pytest.approx(0)
    assert evaluate_proposals(_truth(), [_proposals([10, 10, 29, 29])])["AR@100"] is None


def test_recall_without_classes_or_images_is_undefined():
    for missing in ("categories", "images"):
        coco = _truth()
        coco.dataset[missing] = []
        coco.createIndex()
        found = [] if missing == "images" else [_proposals([10, 10, 29, 29])]
        results = evaluate_proposals(coco, found)
        assert results["AR@100"] is results["ARs@1000"] is None
        assert results["num_proposals"] == len(found)
