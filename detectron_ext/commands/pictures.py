"""Picture files with the ground truth and the detections of images side by side."""

from __future__ import annotations

import collections
import logging
import os

import cv2
import numpy as np

from detectron_ext.counted import by_number, counted
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.image_decoding import REFUSE
from detectron_ext.data.transforms import read_file
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.evaluation.drawing import (
    LONGEST,
    encoded,
    is_too_large,
    opencv_text,
    side_by_side,
)
from detectron_ext.geometry.boxes import clip_to_image, from_xywh, to_xywh
from detectron_ext.output_files import check_writable_folder, make_writable_folder, write_bytes

_LOG = logging.getLogger(__name__)


_WHAT, _ADVICE = "pictures to folder", "choose another folder"


def check_pictures(folder: str, suffix: str = ".png") -> None:
    """Check that pictures can be written to a folder, before the long work. Nothing is made.

    Args:
        folder: its path; it may not exist yet.
        suffix: extension of the pictures with its dot, which decides their format.

    Raises:
        UserError: the folder cannot be written or made, or OpenCV cannot write the format.
    """
    if not can_write(suffix):
        raise UserError(f"cannot write pictures as {suffix}: use png, jpg, bmp, tiff or webp")
    check_writable_folder(folder, _WHAT, _ADVICE)


def can_write(suffix: str) -> bool:
    """Return whether OpenCV writes files of an extension (with its dot)."""
    if "/" in suffix or "\0" in suffix:  # a file elsewhere
        return False
    return bool(cv2.haveImageWriter("picture" + opencv_text(suffix)))


def make_picture_folder(folder: str) -> None:
    """Make a folder for pictures if needed. Call this when all inputs have been checked.

    Raises:
        UserError: the folder cannot be made or written.
    """
    make_writable_folder(folder, _WHAT, _ADVICE)


def write_picture(path: str, image: np.ndarray) -> str:
    """Write an image file, which appears whole or not at all, and return its path.

    OpenCV only encodes it: `cv2.imwrite` ends the process for a name that is not UTF-8.

    Raises:
        UserError: OpenCV cannot encode the image as the file's extension says, or the file cannot
            be written.
    """
    write_bytes(path, encoded(image, os.path.splitext(path)[1]))
    return path


def read_picture(
    dataset: CocoDataset, image_id: int | str, deep: str = REFUSE
) -> np.ndarray | None:
    """Read an image to draw on: (height, width, 3) uint8, BGR.

    It is rotated as for training and testing, so that the boxes fit. If it cannot be read, a
    warning is logged and None is returned.

    Args:
        dataset: the data set.
        image_id: id of the image in it.
        deep: what more than 8 bits a channel become (LIBRA.DATA.DEEP_IMAGES).
    """
    described = dataset.coco.imgs[image_id]
    size = (described["height"], described["width"])
    try:
        return read_file(dataset.image_path(image_id), size, deep, dataset.name)
    except DatasetError as error:
        _LOG.warning("%s: not drawn: %s", dataset.name, error)
        return None


def draw_detections(
    dataset: CocoDataset,
    detections: list[dict],
    folder: str,
    threshold: float,
    image_ids: list,
    deep: str = REFUSE,
) -> list[str]:
    """Write a picture of each image: ground truth on the left, detections on the right.

    The picture of ``a/cat.jpg`` is ``a_cat.png``. If the pictures of two images would have the same
    name, they keep the extension of the image (``a_cat.jpg.png``). If that is not enough, the id of
    the image is added. An image that cannot be read is left out with a warning. A picture has at
    most `LONGEST` pixels on a side, besides its title.

    Args:
        dataset: the data set that was tested.
        detections: COCO results with image and category ids of the data set.
        folder: folder for the pictures; it is made if needed.
        threshold: lowest score of a detection that is drawn.
        image_ids: ids of the images to draw.
        deep: as of :func:`read_picture`.

    Returns:
        Paths of the pictures.

    Raises:
        UserError: the folder cannot be written.
    """
    make_picture_folder(folder)
    found = collections.defaultdict(list)
    for detection in detections:
        found[detection["image_id"]].append(detection)
    names = dict(enumerate(dataset.classes))
    stems = _unique_stems(dataset)
    paths, num_reduced = [], 0
    for image_id in image_ids:
        image = read_picture(dataset, image_id, deep)
        if image is None:
            continue
        num_reduced += is_too_large(image, columns=2)
        truth = _drawable(dataset.coco.imgToAnns[image_id], image, dataset)
        panel = side_by_side(
            image, truth, _drawable(found[image_id], image, dataset), names, threshold
        )
        paths.append(write_picture(os.path.join(folder, stems[image_id] + ".png"), panel))
    _LOG.info("%s in %s", counted(len(paths), "picture"), folder)
    say_reduced(num_reduced)
    return paths


def say_reduced(count: int) -> None:
    """Log how many pictures show their image smaller than it is; nothing if there are none."""
    if count:
        _LOG.info(
            "%d of them %s reduced: the images in a picture have at most %d pixels on a side",
            count, by_number(count, "is", "are"), LONGEST,
        )  # fmt: skip


def _unique_stems(dataset: CocoDataset) -> dict[int | str, str]:
    """Return image id to the name of its picture without .png; all names are different.

    The name of a picture does not depend on which other images are drawn.
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


def _drawable(annotations: list[dict], image: np.ndarray, dataset: CocoDataset) -> list[dict]:
    """Return copies with clipped boxes and class numbers; boxes outside the image are left out."""
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
