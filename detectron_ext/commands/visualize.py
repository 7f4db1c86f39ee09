"""Pictures of a test run, drawn from its detections.json."""

from __future__ import annotations

import json
import math

from detectron_ext.commands.pictures import draw_detections
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError


def visualize(config, dataset_name, detections_path, output_dir, threshold=0.5, first=0) -> list:
    """Draw the detections of a test run; returns the paths of the pictures.

    Args:
        config: for DATASETS_EXTRA.
        dataset_name: catalog name of the data set that was tested.
        detections_path: its ``detections.json``.
        output_dir: folder of the pictures, made if needed.
        threshold: lowest score that is drawn.
        first: draw only the first so many images; 0 is all.

    Raises:
        UserError: the data set or the detections cannot be read or do not belong together, or the
            folder cannot be written.
    """
    dataset = CocoDataset(resolve(dataset_name, config))
    detections = read_detections(detections_path)
    _check_belongs(detections, detections_path, dataset)
    image_ids = dataset.image_ids()[: first or None]
    return draw_detections(dataset, detections, output_dir, threshold, image_ids)


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


def _check_belongs(detections: list, path: str, dataset: CocoDataset) -> None:
    for detection in detections:
        for kind, known in (
            ("image", dataset.coco.imgs),
            ("category", dataset.category_to_contiguous),
        ):
            if detection[f"{kind}_id"] not in known:
                raise UserError(
                    f"{path} has a detection of {kind} {detection[f'{kind}_id']}, which data set "
                    f"{dataset.name} lacks: name the data set that was tested"
                )
