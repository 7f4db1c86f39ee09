"""Reading and checking files of detections: COCO results in JSON, and Detectron's pickle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.array_pickle import read_pickle
from detectron_ext.errors import UserError
from detectron_ext.geometry.boxes import to_xywh
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_DETECTION_NUMBER, MAX_JSON_BYTES


def read_detections(path: str) -> list[dict]:
    """Read COCO results from a JSON file.

    Raises:
        UserError: the file is missing or does not hold COCO results.
    """
    try:
        detections = json.loads(read_text(path, MAX_JSON_BYTES))
    except OSError as error:
        raise UserError(f"cannot read detections {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: name the detections.json of a test") from error
    if not isinstance(detections, list):
        raise UserError(f"{path} is not a list of COCO results: name the detections.json of a test")
    for index, detection in enumerate(detections):
        if not _is_coco_result(detection):
            raise UserError(
                f"{path}: entry {index} is not a COCO result (image_id, category_id, bbox of four "
                f"numbers, score), or a number is above {MAX_DETECTION_NUMBER:g}"
            )
    return detections


def read_upstream_detections(path: str, coco_gt: COCO, image_ids: list | None = None) -> list[dict]:
    """Read Detectron's detections.pkl as COCO results.

    The file has a list for each class, in the order of the annotation file, the background first.
    Each list has an array (N, 5) of x1, y1, x2, y2, score for each image, in the order of the ids.

    Args:
        path: the file.
        coco_gt: ground truth of the data set that was tested.
        image_ids: ids of the images that the file covers; None for all.

    Raises:
        UserError: the file is damaged, or does not fit the ground truth.
    """
    content = read_pickle(path, "detections", UserError)
    by_class: Any = content.get("all_boxes") if isinstance(content, dict) else None
    categories = coco_gt.getCatIds()
    image_ids = sorted(coco_gt.getImgIds()) if image_ids is None else image_ids
    fits = _is_list_of(by_class, len(categories) + 1)
    if not fits or not all(_is_list_of(images, len(image_ids)) for images in by_class[1:]):
        raise UserError(
            f"{path} does not fit the annotations ({len(categories)} classes, {len(image_ids)} "
            "images): compare on the data set that was tested"
        )
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for category, images in zip(categories, by_class[1:])
        for image_id, boxes in zip(image_ids, images)
        for box, score in _boxes_and_scores(boxes, f"{path}: boxes of image {image_id}")
    ]


def _is_list_of(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _boxes_and_scores(boxes: Any, what: str) -> zip:
    """Return pairs of box (x, y, width, height) and score from rows x1, y1, x2, y2, score."""
    try:
        found = np.asarray(boxes, np.float64).reshape(-1, 5)
    except (TypeError, ValueError):
        raise UserError(f"{what} are not rows of five numbers: test again") from None
    if not (np.abs(found) <= MAX_DETECTION_NUMBER).all():
        raise UserError(f"{what} or their scores are not finite: did the training diverge?")
    return zip(to_xywh(found[:, :4]).tolist(), found[:, 4].tolist())


def _is_coco_result(detection: Any) -> bool:
    if not isinstance(detection, dict):
        return False
    bbox = detection.get("bbox")
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(map(_is_usable, bbox))
        and _is_usable(detection.get("score"))
        and _is_id(detection.get("image_id"))
        and _is_id(detection.get("category_id"))
    )


def _is_usable(value: Any) -> bool:
    """Return whether a value is a number whose sums and products do not overflow."""
    return is_finite_number(value) and abs(value) <= MAX_DETECTION_NUMBER


def _is_id(value: Any) -> bool:
    """Return whether a value is a number, perhaps written as 7.0, or text."""
    return isinstance(value, str) or is_finite_number(value)


def is_finite_number(value: Any) -> bool:
    """Return whether a value of a JSON file is a number that fits a float."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer that is larger than any float
        return False
