"""COCO average precision of detections, through pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron_ext.errors import DatasetError
from detectron_ext.evaluation.detection_limit import COCO_LIMIT

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Indices into the fourth axis of COCOeval.eval["precision"], which is (IoU thresholds, recalls,
# classes, areas, max_dets).
_AREA_INDEX = {"all": 0, "small": 1, "medium": 2, "large": 3}


class MatchedDetections(NamedTuple):
    """Detections matched to ground truth by COCO's rule.

    Attributes:
        coco_eval: COCOeval after evaluate(); None if there is no image or no class.
        image_ids: ids of the scored images, sorted.
        class_names: category id to name, sorted by id; all names are different.
        num_detections: number of detections of these classes.
        limit: detections of a class in an image that the additional AP counts; COCO_LIMIT for none.
    """

    coco_eval: COCOeval | None
    image_ids: list
    class_names: dict
    num_detections: int
    limit: int


def match_detections(
    coco_gt: COCO, detections: list[dict], limit: int = COCO_LIMIT
) -> MatchedDetections:
    """Match boxes as COCO does, without changing the ground truth and the detections.

    Args:
        coco_gt: ground truth. In an image without annotations all detections are wrong. A missing
            ``area`` is that of the box, a missing ``iscrowd`` is 0.
        detections: COCO results: dicts of image_id, category_id, bbox (x, y, width, height in
            pixels) and score. The list may be empty. Detections of categories that coco_gt does
            not have are left out. All others are matched, although AP counts only the 100 best
            of each image and class; the better ones are matched first, so that the worse ones do
            not change their matches.
        limit: detections of a class in an image that an additional AP counts, at least 100.

    Raises:
        DatasetError: a detection is in an image that the ground truth does not have.
    """
    class_names = {category["id"]: category["name"] for category in coco_gt.cats.values()}
    image_ids = sorted(coco_gt.imgs)
    detections = [found for found in detections if found["category_id"] in class_names]
    for found in detections:
        if found["image_id"] not in coco_gt.imgs:
            raise DatasetError(
                f"a detection is in image {found['image_id']}, which the annotations do not have: "
                "use the annotations of the data set that was tested"
            )
    names = _unique_names(class_names)
    coco_eval = None
    if names and image_ids:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = indexed_coco(coco_gt, coco_gt.anns.values())
            coco_eval = COCOeval(truth, indexed_coco(coco_gt, detections), "bbox")
            coco_eval.params.imgIds = image_ids
            coco_eval.params.catIds = list(names)
            coco_eval.params.maxDets = sorted({COCO_LIMIT, limit, max(limit, _most(detections))})
            coco_eval.evaluate()
    return MatchedDetections(coco_eval, image_ids, names, len(detections), limit)


def _most(detections: list[dict]) -> int:
    """Return the largest number of detections of a class in an image."""
    counts = Counter((found["image_id"], found["category_id"]) for found in detections)
    return max(counts.values(), default=0)


def _unique_names(class_names: Mapping[int, str]) -> dict:
    """Return category id to name, sorted by id. A repeated name gets its id: "other (7)"."""
    names: dict = {}
    for category in sorted(class_names):
        name = class_names[category]
        while name in names.values():
            name = f"{name} ({category})"
        names[category] = name
    return names


def summarise(matched: MatchedDetections) -> dict[str, Any]:
    """Return the average precision of matched detections.

    Returns:
        A dictionary of AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, APs, APm and APl (ground
        truth below 32^2 pixels, up to 96^2, and above), each the mean over classes, in [0, 1], or
        None without ground truth; per_class and per_class_AP50, {class name: AP or None};
        num_images and num_detections. With a limit of, say, 300 also AP@300, AP50@300, ...
    """
    tables = _precision(matched)
    precision = tables[COCO_LIMIT]
    names = list(matched.class_names.values())
    results: dict[str, Any] = average_precisions(precision)
    if matched.limit > COCO_LIMIT:
        for name, value in average_precisions(tables[matched.limit]).items():
            results[at_limit(name, matched.limit)] = value
    results["per_class"] = {n: _mean(precision[:, :, k, 0]) for k, n in enumerate(names)}
    results["per_class_AP50"] = {n: _mean(precision[0, :, k, 0]) for k, n in enumerate(names)}
    results["num_images"] = len(matched.image_ids)
    results["num_detections"] = matched.num_detections
    return results


def at_limit(metric: str, limit: int) -> str:
    """Return the name of a metric that counts ``limit`` detections: "AP@300"."""
    return metric if limit == COCO_LIMIT else f"{metric}@{limit}"


def average_precisions(precision: np.ndarray) -> dict[str, float | None]:
    """Return AP, AP50, AP75, APs, APm and APl of a table of precision.

    Args:
        precision: (10 IoUs, 101 recalls, K classes, 4 areas). An entry of -1 is undefined and does
            not count.
    """
    return {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        "APs": _mean(precision[..., _AREA_INDEX["small"]]),
        "APm": _mean(precision[..., _AREA_INDEX["medium"]]),
        "APl": _mean(precision[..., _AREA_INDEX["large"]]),
    }


def _precision(matched: MatchedDetections) -> dict[int, np.ndarray]:
    """Return precision (10 IoUs, 101 recalls, K classes, 4 areas) by limit; -1 without truth."""
    limits = (COCO_LIMIT, matched.limit)
    if matched.coco_eval is None:
        return dict.fromkeys(limits, np.full((10, 101, len(matched.class_names), 4), -1.0))
    most = matched.coco_eval.params.maxDets
    with contextlib.redirect_stdout(io.StringIO()):
        matched.coco_eval.accumulate()
    precision = matched.coco_eval.eval["precision"]
    return {limit: precision[..., most.index(limit)] for limit in limits}


def indexed_coco(coco_gt: COCO, annotations: Iterable[dict]) -> COCO:
    """Return a COCO object with copies of the annotations, completed for COCOeval.

    The copies are needed because COCOeval writes into annotations, and because an annotation with
    the id 0 would count as "no match".
    COCO.loadRes cannot be used because it refuses an empty list.
    """
    whole = COCO()
    whole.dataset = {
        "images": list(coco_gt.imgs.values()),
        "categories": list(coco_gt.cats.values()),
        "annotations": [],
    }
    for number, annotation in enumerate(annotations, start=1):
        copy = {"iscrowd": 0, **annotation, "id": number}
        if copy.get("area") is None:
            copy["area"] = float(copy["bbox"][2]) * float(copy["bbox"][3])
        whole.dataset["annotations"].append(copy)
    whole.createIndex()
    return whole


def without_images(coco_gt: COCO, image_ids: Iterable) -> COCO:
    """Return ground truth without some images and their annotations."""
    left_out = set(image_ids)
    smaller = COCO()
    smaller.dataset = {
        **coco_gt.dataset,
        "images": [image for image in coco_gt.imgs.values() if image["id"] not in left_out],
        "annotations": [a for a in coco_gt.anns.values() if a["image_id"] not in left_out],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        smaller.createIndex()
    return smaller


def _mean(precision: np.ndarray) -> float | None:
    """Return the mean of the defined entries; None if there is none."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None
