"""COCO average recall of proposals, through pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Iterable

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron_ext.evaluation.coco_eval import indexed_coco
from detectron_ext.geometry.boxes import to_xywh

_LIMITS = (100, 1000)
# Suffixes in the order of COCOeval's areas.
_AREAS = ("", "s", "m", "l")


def evaluate_proposals(coco_gt: COCO, proposals: Iterable[tuple]) -> dict[str, Any]:
    """Score proposals as COCO does, all classes together.

    Args:
        coco_gt: ground truth; crowds count neither as found nor as missed.
        proposals: (image id, boxes (P, 4) x1 y1 x2 y2 in pixels of the image, scores (P,)) of each
            image.

    Returns:
        A dictionary. AR@100 and AR@1000 are the share of the ground-truth boxes that the 100 or
        1000 best proposals of each image find, as the mean over IoU 0.50:0.05:0.95. ARs@, ARm@ and
        ARl@ are for boxes below 32^2 pixels, up to 96^2, and above. A value is None without ground
        truth. num_images and num_proposals are counts.
    """
    proposals = list(proposals)
    recall = np.full((10, 1, len(_AREAS), len(_LIMITS)), -1.0)
    if coco_gt.cats and coco_gt.imgs:
        recall = _recall(coco_gt, _as_detections(coco_gt, proposals))
    results: dict[str, Any] = {}
    for limit_index, limit in enumerate(_LIMITS):
        for area_index, area in enumerate(_AREAS):
            values = recall[:, 0, area_index, limit_index]
            mean = float(values.mean()) if (values > -1).all() else None
            results[f"AR{area}@{limit}"] = mean
    results["num_images"] = len(coco_gt.imgs)
    results["num_proposals"] = sum(len(boxes) for _, boxes, _ in proposals)
    return results


def _as_detections(coco_gt: COCO, proposals: list) -> list[dict]:
    """Return proposals as COCO results. COCOeval needs a class even if it ignores classes."""
    category = min(coco_gt.cats)
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": float(score)}
        for image_id, boxes, scores in proposals
        for box, score in zip(to_xywh(boxes).astype(float).tolist(), scores)
    ]


def _recall(coco_gt: COCO, detections: list[dict]) -> np.ndarray:
    """Return recall (10 IoUs, 1, 4 areas, limits); -1 without ground truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = indexed_coco(coco_gt, coco_gt.anns.values())
        evaluation = COCOeval(truth, indexed_coco(coco_gt, detections), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.imgIds = sorted(coco_gt.imgs)
        evaluation.params.maxDets = list(_LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"]
