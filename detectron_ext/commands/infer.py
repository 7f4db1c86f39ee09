"""Detecting objects in image files that belong to no data set."""

from __future__ import annotations

import logging
import os

from detectron_ext.commands.pictures import check_pictures, make_picture_folder, write_picture
from detectron_ext.config import Config, reads_proposals
from detectron_ext.data.transforms import read_file
from detectron_ext.engine.class_names import class_names
from detectron_ext.engine.detector import Detector
from detectron_ext.engine.inference import coco_results
from detectron_ext.errors import UserError
from detectron_ext.evaluation.drawing import draw_boxes
from detectron_ext.output_files import write_json

_LOG = logging.getLogger(__name__)
_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def infer(
    config: Config,
    weights: str,
    image_or_folder: str,
    output_dir: str,
    image_extension: str = "",
    picture_extension: str = "png",
    threshold: float = 0.7,
    always: bool = False,
) -> dict:
    """Detect objects in image files, draw them and list them in detections.json.

    Args:
        config: a merged configuration.
        weights: a weights file that fits the configuration.
        image_or_folder: an image file, or a folder whose images are read in the order of their
            names.
        output_dir: folder for the pictures and detections.json. The picture of ``cat.jpg`` is
            ``cat.jpg.png``, as in Detectron, so that no two images share a name.
        image_extension: in a folder, read only files with this extension; "" reads all images.
        picture_extension: file format of the pictures, one that OpenCV can write.
        threshold: lowest score of a detection that is drawn and listed.
        always: also draw images without detections.

    Returns:
        The content of detections.json: name of an image file to a list of {class, score, bbox (x,
        y, width, height in pixels of the image)}.

    Raises:
        UserError: there is no image; the weights cannot be read; the output folder cannot be
            written; or the model cannot detect objects in a single image.
    """
    _check_stands_alone(config)
    paths = _image_paths(image_or_folder, image_extension)
    suffix = "." + picture_extension.lstrip(".")
    check_pictures(output_dir, suffix)
    detector = Detector(config, weights)
    names = class_names(detector.classes, config.MODEL.NUM_CLASSES, weights)
    found: dict[str, list[dict]] = {}
    best = -1.0
    for path in paths:
        image = read_file(path)
        if image is None:
            _LOG.warning("skipped %s: not an image that OpenCV can decode", path)
            continue
        if not found:  # the first image that can be read: all inputs have been checked
            make_picture_folder(output_dir)
        file_name = os.path.basename(path)
        entries = coco_results(detector(image), file_name, dict(zip(names, names)))
        detections = [entry for entry in entries if entry["score"] >= threshold]
        found[file_name] = [
            {"class": names[entry["category_id"]], "score": entry["score"], "bbox": entry["bbox"]}
            for entry in detections
        ]
        is_full = 0 < config.TEST.DETECTIONS_PER_IM == len(detections)
        limited = ", the most that TEST.DETECTIONS_PER_IM keeps" if is_full else ""
        _LOG.info("%s: %d objects%s", path, len(detections), limited)
        best = max([best, *(entry["score"] for entry in entries)])
        if detections or always:
            picture = os.path.join(output_dir, file_name + suffix)
            write_picture(picture, draw_boxes(image, detections, names, threshold))
    if not found:
        raise UserError(f"{image_or_folder}: no image that OpenCV can decode")
    if not any(found.values()):
        report_none(len(found), threshold, best)
    write_json(os.path.join(output_dir, "detections.json"), found)
    return found


def report_none(num_images: int, threshold: float, best: float) -> None:
    """Log that no detection was drawn, and the best score that there was; -1 if there was none."""
    known = f"the best score is {best:.3g}" if best >= 0 else "and none with a lower score"
    _LOG.warning(
        "%s: no detection has a score of at least %g (--thresh); %s",
        "1 image" if num_images == 1 else f"{num_images} images",
        threshold,
        known,
    )


def _check_stands_alone(config: Config) -> None:
    if config.MODEL.RPN_ONLY:
        raise UserError(
            "a model with MODEL.RPN_ONLY detects no objects: run it with tools/test_net.py"
        )
    if reads_proposals(config):
        raise UserError(
            "Fast R-CNN needs proposals from a file, which single images do not have: run it with "
            "tools/test_net.py, or set MODEL.FASTER_RCNN True"
        )


def _image_paths(image_or_folder: str, extension: str) -> list[str]:
    if not os.path.isdir(image_or_folder):
        if not os.path.exists(image_or_folder):
            raise UserError(f"no such image or folder: {image_or_folder}")
        return [image_or_folder]
    wanted = ("." + extension.lower().lstrip("."),) if extension else _EXTENSIONS
    names = sorted(n for n in os.listdir(image_or_folder) if n.lower().endswith(wanted))
    if not names:
        raise UserError(f"folder {image_or_folder} has no images ({', '.join(wanted)})")
    return [os.path.join(image_or_folder, name) for name in names]
