"""Detections as COCO results in a JSON file, checked."""

from __future__ import annotations

import json
import math

from detectron_ext.errors import UserError


def read_detections(path: str) -> list:
    """Read COCO results from a JSON file.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            detections = json.load(file)
    except OSError as error:
        raise UserError(f"cannot read detections {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: name the detections.json of a test run") from error
    if not isinstance(detections, list):
        raise UserError(f"{path} holds no list of COCO results: name a test run's detections.json")
    for index, detection in enumerate(detections):
        if not _is_coco_result(detection):
            raise UserError(
                f"{path}: entry {index} is no COCO result (image_id, category_id, bbox of four "
                "numbers, score)"
            )
    return detections


def _is_coco_result(detection) -> bool:
    if not isinstance(detection, dict):
        return False
    bbox = detection.get("bbox")
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(map(_is_finite, bbox))
        and _is_finite(detection.get("score"))
        and isinstance(detection.get("image_id"), (int, str))
        and isinstance(detection.get("category_id"), (int, str))
    )


def _is_finite(value) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
