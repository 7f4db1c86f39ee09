"""Detections on image files that belong to no data set."""

from __future__ import annotations

import logging
import os

from detectron_ext.commands.pictures import prepare_folder, write_picture
from detectron_ext.config import reads_proposals
from detectron_ext.data.coco_classes import COCO_CLASSES
from detectron_ext.data.transforms import read_file
from detectron_ext.engine.detector import Detector
from detectron_ext.engine.inference import coco_results
from detectron_ext.errors import UserError
from detectron_ext.evaluation.drawing import draw_boxes
from detectron_ext.output_files import write_json

_LOG = logging.getLogger(__name__)
_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def infer(
    config,
    weights: str,
    image_or_folder: str,
    output_dir: str,
    image_extension: str = "",
    picture_extension: str = "png",
    threshold: float = 0.7,
    always: bool = False,
) -> dict:
    """Detect objects in image files; draw them and list them.

    Args:
        config: a merged configuration.
        weights: a weights file that fits it.
        image_or_folder: an image, or a folder whose images are taken in order of name.
        output_dir: gets ``<image file>.<picture_extension>`` (``cat.jpg.png``, as Detectron: two
            images never share a name) and ``detections.json``: image file to a list of
            {class, score, bbox (x, y, width, height in image pixels)}.
        image_extension: in a folder, take only files of this extension; "" is all images.
        picture_extension: format of the pictures, one that OpenCV writes.
        threshold: lowest score that is drawn and listed.
        always: draw images in which nothing is found too.

    Returns:
        What ``detections.json`` holds.

    Raises:
        UserError: no image, unreadable weights, an output folder that cannot be written, or a model
            that does not detect objects from an image alone.
    """
    _check_stands_alone(config)
    paths = _image_paths(image_or_folder, image_extension)
    suffix = "." + picture_extension.lstrip(".")
    prepare_folder(output_dir, suffix)
    detector = Detector(config, weights)
    names = _class_names(detector.classes, config.MODEL.NUM_CLASSES)
    found = {}
    for path in paths:
        image = read_file(path)
        if image is None:
            _LOG.warning("%s is not an image that OpenCV can decode: passed over", path)
            continue
        file_name = os.path.basename(path)
        entries = coco_results(detector(image), file_name, dict(zip(names, names)))
        detections = [entry for entry in entries if entry["score"] >= threshold]
        found[file_name] = [
            {"class": names[entry["category_id"]], "score": entry["score"], "bbox": entry["bbox"]}
            for entry in detections
        ]
        _LOG.info("%s: %d objects", path, len(detections))
        if detections or always:
            picture = os.path.join(output_dir, file_name + suffix)
            write_picture(picture, draw_boxes(image, detections, names, threshold))
    if not found:
        raise UserError(f"{image_or_folder}: no image that OpenCV can decode")
    write_json(os.path.join(output_dir, "detections.json"), found)
    return found


def _check_stands_alone(config) -> None:
    if config.MODEL.RPN_ONLY:
        raise UserError("a model with MODEL.RPN_ONLY detects no objects: tools/test_net.py runs it")
    if reads_proposals(config):
        raise UserError(
            "Fast R-CNN needs precomputed proposals, which single images do not have: "
            "tools/test_net.py runs it, or set MODEL.FASTER_RCNN True"
        )


def _image_paths(image_or_folder: str, extension: str) -> list:
    if not os.path.isdir(image_or_folder):
        if not os.path.exists(image_or_folder):
            raise UserError(f"no such image or folder: {image_or_folder}")
        return [image_or_folder]
    wanted = ("." + extension.lower().lstrip("."),) if extension else _EXTENSIONS
    names = sorted(n for n in os.listdir(image_or_folder) if n.lower().endswith(wanted))
    if not names:
        raise UserError(f"folder {image_or_folder} has no images ({', '.join(wanted)})")
    return [os.path.join(image_or_folder, name) for name in names]


def _class_names(classes, num_classes: int) -> dict:
    """Names by class number: the weights', else COCO's where the number fits, else numbers."""
    if classes is None and num_classes == len(COCO_CLASSES):
        classes = COCO_CLASSES
    if classes is None or len(classes) != num_classes:
        return {number: f"class {number}" for number in range(num_classes)}
    return dict(enumerate(classes))
