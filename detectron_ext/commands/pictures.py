"""Pictures as files: detections drawn beside their ground truth."""

from __future__ import annotations

import collections
import logging
import os

import cv2
import numpy as np

from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.transforms import read_file
from detectron_ext.errors import UserError
from detectron_ext.evaluation.drawing import side_by_side
from detectron_ext.geometry.boxes import clip_to_image, from_xywh, to_xywh
from detectron_ext.output_files import make_writable_folder

_LOG = logging.getLogger(__name__)


def prepare_folder(folder: str, suffix: str = ".png") -> None:
    """Make a folder for pictures; better now than after the work whose result they show.

    Args:
        folder: made if needed.
        suffix: file name extension with its dot: the format of the pictures.

    Raises:
        UserError: the folder cannot be written, or OpenCV does not write the format.
    """
    if not cv2.haveImageWriter("picture" + suffix):
        raise UserError(f"cannot write pictures as {suffix}: use png, jpg, bmp, tiff or webp")
    make_writable_folder(folder, "pictures to folder", "choose another folder")


def write_picture(path: str, image: np.ndarray) -> str:
    """Write an image file; returns the path.

    Raises:
        UserError: it cannot be written.
    """
    if not cv2.imwrite(path, image):
        raise UserError(f"cannot write picture {path}: is the disk full?")
    return path


def read_picture(dataset: CocoDataset, image_id) -> np.ndarray | None:
    """An image to draw on, (height, width, 3) uint8, BGR; None, with a warning, if unreadable.

    Turned as for training and testing, whose boxes are drawn.
    """
    described = dataset.coco.imgs[image_id]
    size = (described["height"], described["width"])
    image = read_file(dataset.image_path(image_id), size)
    if image is None:
        _LOG.warning("%s: cannot read %s, not drawn", dataset.name, described["file_name"])
    return image


def draw_detections(
    dataset: CocoDataset, detections: list, folder: str, threshold: float, image_ids: list
) -> list:
    """Write a picture of each image: ground truth to the left, detections to the right.

    A picture is named for its image: ``a/cat.jpg`` becomes ``a_cat.png``; where another image of
    the data set would be called that too, ``a_cat.jpg.png``, if need be with the image's id. An
    image that cannot be read is named in a warning and left out.

    Args:
        dataset: what was tested.
        detections: COCO results; image and category are the data set's.
        folder: made if needed.
        threshold: lowest score that is drawn.
        image_ids: the images to draw.

    Returns:
        Paths of the pictures.

    Raises:
        UserError: the folder cannot be written.
    """
    prepare_folder(folder)
    found = collections.defaultdict(list)
    for detection in detections:
        found[detection["image_id"]].append(detection)
    names = dict(enumerate(dataset.classes))
    stems = _unique_stems(dataset)
    paths = []
    for image_id in image_ids:
        image = read_picture(dataset, image_id)
        if image is None:
            continue
        truth = _drawable(dataset.coco.imgToAnns[image_id], image, dataset)
        panel = side_by_side(
            image, truth, _drawable(found[image_id], image, dataset), names, threshold
        )
        paths.append(write_picture(os.path.join(folder, stems[image_id] + ".png"), panel))
    _LOG.info("%d pictures in %s", len(paths), folder)
    return paths


def _unique_stems(dataset: CocoDataset) -> dict:
    """By image id the name of its picture without .png; no two images of the data set share one.

    An image's name is the same however few images of the data set are drawn.
    """
    flat = {i: dataset.coco.imgs[i]["file_name"].replace("/", "_") for i in dataset.image_ids()}
    counts = collections.Counter(os.path.splitext(name)[0] for name in flat.values())
    taken = {stem for stem, count in counts.items() if count == 1}
    stems = {}
    for image_id, name in flat.items():
        stem = os.path.splitext(name)[0]
        if counts[stem] > 1:
            stem = name
            while stem in taken:
                stem += "_" + str(image_id).replace("/", "_")
            taken.add(stem)
        stems[image_id] = stem
    return stems


def _drawable(annotations: list, image: np.ndarray, dataset: CocoDataset) -> list:
    """Copies with the box clipped to the image and the class's number; those outside are gone."""
    height, width = image.shape[:2]
    corners = from_xywh(np.array([a["bbox"] for a in annotations], dtype=np.float64))
    boxes = to_xywh(clip_to_image(corners, height, width)).tolist()
    drawable = []
    for annotation, box in zip(annotations, boxes):
        x, y, box_width, box_height = annotation["bbox"]
        if min(box_width, box_height, width - x, height - y, x + box_width, y + box_height) > 0:
            number = dataset.category_to_contiguous[annotation["category_id"]]
            drawable.append({**annotation, "bbox": box, "category_id": number})
    return drawable
