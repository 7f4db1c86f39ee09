"""COCO average precision of detections, through pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron_ext.errors import DatasetError, UserError

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Where COCOeval.eval["precision"], (thresholds, recalls, classes, areas, max_dets), keeps what.
_AREA_INDEX = {"all": 0, "small": 1, "medium": 2, "large": 3}


def evaluate_detections(
    coco_gt: COCO,
    detections: list[dict],
    class_names: Mapping[int, str] | None = None,
    max_dets: int = 100,
) -> dict[str, Any]:
    """Score boxes as COCO does; ground truth and detections are left as they were.

    coco_gt: ground truth. Every image in it counts, also those without annotations (all
        detections there are false). A missing `area` is the box's, a missing `iscrowd` is 0.
    detections: COCO results, dicts of image_id, category_id, bbox (x, y, width, height in
        pixels) and score; may be empty.
    class_names: category id -> name of the categories to score; all of coco_gt's when None.
        Detections of other categories are left out.
    max_dets: the best-scored detections that count, per image and class.

    Returns AP (mean over IoU 0.50:0.05:0.95), AP50, AP75, and APs, APm, APl (ground truth below
    32^2, up to 96^2, and above), each the mean over classes, in 0..1, or None where no ground
    truth defines it; per_class and per_class_AP50, {class name: AP or None}; num_images and
    num_detections.

    Raises DatasetError for a detection in an image that the ground truth does not have.
    """
    if class_names is None:
        class_names = {category["id"]: category["name"] for category in coco_gt.cats.values()}
    category_ids = sorted(class_names)
    image_ids = sorted(coco_gt.imgs)
    detections = [found for found in detections if found["category_id"] in class_names]
    for found in detections:
        if found["image_id"] not in coco_gt.imgs:
            raise DatasetError(
                f"a detection names image {found['image_id']}, which the annotations lack: "
                "evaluate it against the data set it was made on"
            )
    precision = _precision(coco_gt, detections, image_ids, category_ids, max_dets)
    results: dict[str, Any] = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        "APs": _mean(precision[..., _AREA_INDEX["small"]]),
        "APm": _mean(precision[..., _AREA_INDEX["medium"]]),
        "APl": _mean(precision[..., _AREA_INDEX["large"]]),
    }
    names = [class_names[category] for category in category_ids]
    results["per_class"] = {n: _mean(precision[:, :, k, 0]) for k, n in enumerate(names)}
    results["per_class_AP50"] = {n: _mean(precision[0, :, k, 0]) for k, n in enumerate(names)}
    results["num_images"] = len(image_ids)
    results["num_detections"] = len(detections)
    return results


def write_results(path: str, results: Any) -> None:
    """Write results as JSON, NaN and infinity as null; the file appears whole or not at all.

    Makes the folder if needed. Raises UserError when the file cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    text = json.dumps(_finite(results), indent=2, allow_nan=False) + "\n"
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".results.", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files private; results are as readable as their folder.
        os.chmod(temporary, os.stat(folder).st_mode & 0o666)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}): choose another folder") from error


def _precision(
    coco_gt: COCO,
    detections: list[dict],
    image_ids: list[int],
    category_ids: list[int],
    max_dets: int,
) -> np.ndarray:
    """Precision, or -1 without ground truth: (10 IoUs, 101 recalls, K classes, 4 areas)."""
    if not category_ids or not image_ids:
        return np.full((10, 101, len(category_ids), 4), -1.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = indexed_coco(coco_gt, coco_gt.anns.values())
        evaluation = COCOeval(truth, indexed_coco(coco_gt, detections), "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = category_ids
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


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


def _mean(precision: np.ndarray) -> float | None:
    """Mean of the defined entries; None when there is none."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _finite(value: Any) -> Any:
    """The same value in types that strict JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
