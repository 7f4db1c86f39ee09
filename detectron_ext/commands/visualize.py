"""Pictures of a data set's detections beside its ground truth."""

from __future__ import annotations

import collections
import json
import logging
import os

import cv2

from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.errors import UserError
from detectron_ext.evaluation.drawing import side_by_side

_LOG = logging.getLogger(__name__)


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
        UserError: the data set or the detections cannot be read, or the folder not written.
    """
    dataset = CocoDataset(resolve(dataset_name, config))
    detections = read_detections(detections_path)
    return draw_detections(dataset, detections, output_dir, threshold, first)


def read_detections(path: str) -> list:
    """Read COCO results from a JSON file.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        with open(path) as file:
            detections = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read detections {path}: {error}") from error
    keys = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(detections, list) or not all(
        isinstance(found, dict) and keys <= found.keys() for found in detections
    ):
        raise UserError(f"{path} holds no COCO results (image_id, category_id, bbox, score)")
    return detections


def draw_detections(dataset, detections, folder, threshold, first=0) -> list:
    """Write one picture for each image: ground truth to the left, detections to the right."""
    found = collections.defaultdict(list)
    for detection in detections:
        found[detection["image_id"]].append(detection)
    names = {key: category["name"] for key, category in dataset.coco.cats.items()}
    paths = []
    for image_id in sorted(dataset.coco.imgs)[: first or None]:
        file_name = dataset.coco.imgs[image_id]["file_name"]
        image = cv2.imread(dataset.image_path(image_id))
        if image is None:
            _LOG.warning("%s: cannot read %s, not drawn", dataset.name, file_name)
            continue
        truth = dataset.coco.imgToAnns[image_id]
        panel = side_by_side(image, truth, found[image_id], names, threshold)
        stem = os.path.splitext(file_name.replace("/", "_"))[0]
        paths.append(write_picture(os.path.join(folder, stem + ".png"), panel))
    _LOG.info("%d pictures in %s", len(paths), folder)
    return paths


def write_picture(path: str, image) -> str:
    """Write an image file, its folder made if needed; returns the path.

    Raises:
        UserError: the folder cannot be written or OpenCV does not know the format.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        written = cv2.imwrite(path, image)
    except (OSError, cv2.error) as error:
        raise UserError(f"cannot write picture {path}: {error}".splitlines()[0]) from error
    if not written:
        raise UserError(f"cannot write picture {path}: is the folder writable?")
    return path
