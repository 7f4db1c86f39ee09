"""COCO average precision of detections, through pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron_ext.errors import DatasetError

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_MAX_DETECTIONS = 100  # that count, of one image and class
# Where COCOeval.eval["precision"], (thresholds, recalls, classes, areas, max_dets), keeps what.
_AREA_INDEX = {"all": 0, "small": 1, "medium": 2, "large": 3}


class MatchedDetections(NamedTuple):
    """Detections matched to ground truth by COCO's rule.

    coco_eval: after its evaluate(); None where there is no image or no class.
    image_ids, class_names: what was scored, sorted by id; no two classes have one name.
    num_detections: of those classes.
    """

    coco_eval: COCOeval | None
    image_ids: list
    class_names: dict
    num_detections: int


def match_detections(coco_gt: COCO, detections: list[dict]) -> MatchedDetections:
    """Match boxes as COCO does; ground truth and detections are left as they were.

    Args:
        coco_gt: ground truth. Every image in it counts, also those without annotations (all
            detections there are false). A missing `area` is the box's, a missing `iscrowd` is 0.
        detections: COCO results, dicts of image_id, category_id, bbox (x, y, width, height in
            pixels) and score; may be empty. Those of categories that coco_gt lacks are left out.
            Of one image and class the 100 of the best scores count.

    Raises:
        DatasetError: a detection in an image that the ground truth does not have.
    """
    class_names = {category["id"]: category["name"] for category in coco_gt.cats.values()}
    image_ids = sorted(coco_gt.imgs)
    detections = [found for found in detections if found["category_id"] in class_names]
    for found in detections:
        if found["image_id"] not in coco_gt.imgs:
            raise DatasetError(
                f"a detection names image {found['image_id']}, which the annotations lack: "
                "evaluate it against the data set it was made on"
            )
    names = _unique_names(class_names)
    coco_eval = None
    if names and image_ids:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = indexed_coco(coco_gt, coco_gt.anns.values())
            coco_eval = COCOeval(truth, indexed_coco(coco_gt, detections), "bbox")
            coco_eval.params.imgIds = image_ids
            coco_eval.params.catIds = list(names)
            coco_eval.params.maxDets = [_MAX_DETECTIONS]
            coco_eval.evaluate()
    return MatchedDetections(coco_eval, image_ids, names, len(detections))


def _unique_names(class_names: Mapping[int, str]) -> dict:
    """By category id, sorted; a name that an earlier class has gets the id: "other (7)"."""
    names: dict = {}
    for category in sorted(class_names):
        name = class_names[category]
        while name in names.values():
            name = f"{name} ({category})"
        names[category] = name
    return names


def summarise(matched: MatchedDetections) -> dict[str, Any]:
    """Average precision of matched detections.

    Returns:
        AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, and APs, APm, APl (ground truth below 32^2,
        up to 96^2, and above), each the mean over classes, in 0..1, or None where no ground truth
        defines it; per_class and per_class_AP50, {class name: AP or None}, where a name that
        another class has is followed by the category id; num_images and num_detections.
    """
    precision = _precision(matched)
    names = list(matched.class_names.values())
    results: dict[str, Any] = average_precisions(precision)
    results["per_class"] = {n: _mean(precision[:, :, k, 0]) for k, n in enumerate(names)}
    results["per_class_AP50"] = {n: _mean(precision[0, :, k, 0]) for k, n in enumerate(names)}
    results["num_images"] = len(matched.image_ids)
    results["num_detections"] = matched.num_detections
    return results


def average_precisions(precision: np.ndarray) -> dict[str, float | None]:
    """AP, AP50, AP75, APs, APm and APl of precision (10 IoUs, 101 recalls, K classes, 4 areas).

    Entries of -1 are undefined and do not count.
    """
    return {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        "APs": _mean(precision[..., _AREA_INDEX["small"]]),
        "APm": _mean(precision[..., _AREA_INDEX["medium"]]),
        "APl": _mean(precision[..., _AREA_INDEX["large"]]),
    }


def _precision(matched: MatchedDetections) -> np.ndarray:
    """Precision, or -1 without ground truth: (10 IoUs, 101 recalls, K classes, 4 areas)."""
    if matched.coco_eval is None:
        return np.full((10, 101, len(matched.class_names), 4), -1.0)
    with contextlib.redirect_stdout(io.StringIO()):
        matched.coco_eval.accumulate()
    return matched.coco_eval.eval["precision"][..., -1]


def indexed_coco(coco_gt: COCO, annotations: Iterable[dict]) -> COCO:
    """A COCO of copies of the annotations, with whatever COCOeval needs filled in.

    COCOeval writes into annotations, takes id 0 for "no match", and COCO.loadRes rejects an
    empty list, so neither the caller's dicts nor loadRes will do.
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
    """Ground truth without some images and what is annotated in them."""
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
    """Mean of the defined entries; None when there is none."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None
