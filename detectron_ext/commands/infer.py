"""Detecting objects in image files that belong to no data set."""

from __future__ import annotations

import json
import logging
import os
from typing import Callable, Iterator, Sequence

import cv2
import numpy as np

from detectron_ext.commands.pictures import (
    can_write,
    check_pictures,
    make_picture_folder,
    say_reduced,
    write_picture,
)
from detectron_ext.config import Config, reads_proposals
from detectron_ext.counted import counted
from detectron_ext.data.size_limit import size_limit_message
from detectron_ext.data.transforms import read_file
from detectron_ext.engine.class_names import class_names
from detectron_ext.engine.detector import Detector
from detectron_ext.engine.inference import coco_results
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.evaluation.drawing import draw_boxes, fit, is_too_large
from detectron_ext.input_files import open_input, read_text
from detectron_ext.limits import MAX_JSON_BYTES
from detectron_ext.output_files import write_json

_LOG = logging.getLogger(__name__)
_DETECTIONS = "detections.json"
# Names of files that are passed over; more would hide the other messages.
_MOST_NAMED = 10


def infer(
    config: Config,
    weights: str,
    image_or_folder: str,
    output_dir: str,
    image_extension: str = "",
    picture_extension: str = "png",
    threshold: float = 0.7,
    always: bool = False,
    make_detector: Callable = Detector,
) -> dict:
    """Detect objects in image files, draw them and list them in detections.json.

    If a picture cannot be written, no more are drawn, and detections.json is written nevertheless.

    Args:
        config: a merged configuration.
        weights: a weights file that fits the configuration.
        image_or_folder: an image file, or a folder. Of a folder, all files that OpenCV can decode
            are read in the order of their names, and the others are named in a warning. Pictures of
            an earlier run in the same folder are not read.
        output_dir: folder for the pictures and detections.json. The picture of ``cat.jpg`` is
            ``cat.jpg.png``, as in Detectron, so that no two images share a name.
        image_extension: in a folder, read only files with this extension; "" reads all images.
        picture_extension: file format of the pictures, one that OpenCV can write.
        threshold: lowest score of a detection that is drawn and listed.
        always: also draw images without detections.
        make_detector: called with the configuration and the weights; returns an object with
            `Detector`'s attribute and call.

    Returns:
        The content of detections.json: name of an image file to a list of {class, score, bbox (x,
        y, width, height in pixels of the image)}.

    Raises:
        UserError: there is no image; the weights cannot be read; the output folder cannot be
            written; or the model cannot detect objects in a single image.
    """
    _check_stands_alone(config)
    paths = _image_paths(image_or_folder, image_extension, output_dir)
    suffix = "." + picture_extension.lstrip(".")
    check_pictures(output_dir, suffix)
    detector = make_detector(config, weights)
    names = class_names(detector.classes, config.MODEL.NUM_CLASSES, weights)
    found: dict[str, list[dict]] = {}
    best, sizes, num_reduced = -1.0, [], 0
    unwritten: UserError | None = None
    for path, image in _readable(paths, config):
        if not found:  # the first image that can be read: all inputs have been checked
            make_picture_folder(output_dir)
        sizes.append((image.shape[0], image.shape[1]))
        file_name = os.path.basename(path)
        entries = coco_results(detector(image), file_name, dict(zip(names, names)))
        best = max([best, *(entry["score"] for entry in entries)])
        detections = [entry for entry in entries if entry["score"] >= threshold]
        _say_objects(path, len(detections), config)
        found[file_name] = [
            {"class": names[entry["category_id"]], "score": entry["score"], "bbox": entry["bbox"]}
            for entry in detections
        ]
        if (detections or always) and not unwritten:
            picture = os.path.join(output_dir, file_name + suffix)
            try:
                write_picture(picture, draw_boxes(*fit(image, detections), names, threshold))
            except UserError as error:  # as on a full disk, which must not cost the detections
                unwritten = error
                _LOG.warning("no more pictures: %s", error)
            num_reduced += is_too_large(image)
    if not found:
        raise UserError(f"{image_or_folder}: no image that OpenCV can decode")
    say_reduced(num_reduced)
    _say_size_limit(sizes, config)
    if not any(found.values()):
        report_none(len(found), threshold, best)
    path = os.path.join(output_dir, _DETECTIONS)
    write_json(path, found)
    if unwritten:
        raise UserError(f"{unwritten}; {path} is complete, but pictures are missing")
    return found


def _readable(paths: Sequence[str], config: Config) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the path and the image of each file that can be read; a warning names the others."""
    for path in paths:
        try:
            image = read_file(path, deep=config.LIBRA.DATA.DEEP_IMAGES)
        except DatasetError as error:
            _LOG.warning("skipped: %s", error)
            continue
        yield path, image


def _say_objects(path: str, count: int, config: Config) -> None:
    is_full = 0 < config.TEST.DETECTIONS_PER_IM == count
    limited = ", the most that TEST.DETECTIONS_PER_IM keeps" if is_full else ""
    _LOG.info("%s: %s%s", path, counted(count, "object"), limited)


def report_none(num_images: int, threshold: float, best: float) -> None:
    """Log that no detection was drawn, and the best score that there was; -1 if there was none."""
    known = f"the best score is {best:.3g}" if best >= 0 else "and none with a lower score"
    _LOG.warning(
        "%s: no detection has a score of at least %g (--thresh); %s",
        counted(num_images, "image"),
        threshold,
        known,
    )


def _say_size_limit(sizes: Sequence[tuple[int, int]], config: Config) -> None:
    """Warn if TEST.MAX_SIZE keeps every image from TEST.SCALE."""
    heights, widths = np.array(sizes, dtype=np.int64).T
    limit = config.TEST.MAX_SIZE
    message = size_limit_message(
        heights, widths, (config.TEST.SCALE,), limit, "TEST.SCALE", "TEST.MAX_SIZE"
    )
    if message:
        _LOG.log(logging.WARNING if limit < config.TEST.SCALE else logging.INFO, "%s", message)


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


def _image_paths(image_or_folder: str, extension: str, output_dir: str) -> list[str]:
    """Return the images to read; what is passed over in a folder is said."""
    if not os.path.isdir(image_or_folder):
        if not os.path.exists(image_or_folder):
            raise UserError(f"no such image or folder: {image_or_folder}")
        return [image_or_folder]
    names = [entry.name for entry in os.scandir(image_or_folder) if entry.is_file()]
    own = _own_files(names, image_or_folder, output_dir)
    pictures = sorted(own - {_DETECTIONS})
    if pictures:
        _say_passed_over("pictures of an earlier run", pictures, image_or_folder)
    others = sorted(set(names) - own)
    wanted = "." + extension.lower().lstrip(".") if extension else ""
    if wanted:
        chosen = [name for name in others if name.lower().endswith(wanted)]
    else:
        chosen = [name for name in others if _can_read(os.path.join(image_or_folder, name))]
        rest = sorted(set(others) - set(chosen))
        if rest:
            _say_passed_over("files that OpenCV cannot decode", rest, image_or_folder)
    if not chosen:
        raise UserError(
            f"folder {image_or_folder} has no images" + (f" ({wanted})" if wanted else "")
        )
    return [os.path.join(image_or_folder, name) for name in chosen]


def _can_read(path: str) -> bool:
    """Return whether OpenCV knows the file's format.

    OpenCV gets the name of the open file, because it ends the process for a name that is not UTF-8.
    """
    try:
        with open_input(path) as file:
            return bool(cv2.haveImageReader(f"/proc/self/fd/{file.fileno()}"))
    except OSError:
        return False


def _say_passed_over(what: str, names: Sequence[str], folder: str) -> None:
    more = f", ... ({len(names)} files)" if len(names) > _MOST_NAMED else ""
    listed = ", ".join(names[:_MOST_NAMED])
    _LOG.warning("%s: passed over %s: %s%s", folder, what, listed, more)


def _own_files(names: Sequence[str], folder: str, output_dir: str) -> set[str]:
    """Return which files of a folder an earlier run has written there.

    The picture of cat.jpg is cat.jpg.png. It is known by its two extensions, by the image beside it
    or by the earlier list of detections.
    """
    if os.path.realpath(folder) != os.path.realpath(output_dir):
        return set()
    images = {*names, *_earlier_images(os.path.join(folder, _DETECTIONS))}
    stems = {name: os.path.splitext(name)[0] for name in names}
    pictures = {
        name
        for name, stem in stems.items()
        if stem in images or can_write(os.path.splitext(stem)[1])
    }
    return pictures | ({_DETECTIONS} & set(names))


def _earlier_images(path: str) -> list[str]:
    try:
        listed = json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return []
    return list(listed) if isinstance(listed, dict) else []
