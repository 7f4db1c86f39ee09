"""All scores of detections: average precision, precision and recall."""

from __future__ import annotations

from typing import Any

from pycocotools.coco import COCO

from detectron_ext.evaluation.coco_eval import match_detections, summarise
from detectron_ext.evaluation.detection_limit import COCO_LIMIT
from detectron_ext.evaluation.matches import collect_matches
from detectron_ext.evaluation.operating_points import (
    scored_boxes,
    scored_concepts,
    summarise_points,
)


def score_detections(
    coco_gt: COCO, detections: list[dict], limit: int = COCO_LIMIT
) -> dict[str, Any]:
    """Return average precision, and precision and recall of boxes and of concepts.

    Args:
        coco_gt: ground truth.
        detections: COCO results.
        limit: detections of a class in an image that an additional AP counts, at least 100.

    Returns:
        The results of :func:`detectron_ext.evaluation.coco_eval.summarise`, and ``box`` and
        ``concept``, each a result of
        :func:`detectron_ext.evaluation.operating_points.summarise_points`.

    Raises:
        DatasetError: a detection is in an image that the ground truth does not have.
    """
    matched = match_detections(coco_gt, detections, limit)
    concepts = scored_concepts(coco_gt, detections, matched.class_names)
    return {
        **summarise(matched),
        "box": summarise_points(scored_boxes(collect_matches(matched))),
        "concept": summarise_points(concepts),
    }
