"""A data set in COCO format: its classes and the records of its images."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.data.annotation_file import BACKGROUND_NAME
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.exif import AnnotatedFile, remember_files
from detectron_ext.data.formats import read_annotations
from detectron_ext.data.ground_truth import (
    Reading,
    remove_unusable,
    trainable_boxes,
    training_summary,
)
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.errors import DatasetError

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)


class CocoDataset:
    """A data set whose annotations were read and checked.

    Attributes:
        name: catalog name.
        classes: class names; the first is "__background__", the others are in the file's order.
        num_classes: number of classes including the background, as MODEL.NUM_CLASSES.
        category_to_contiguous: category id in the file to class number, from 1.
        contiguous_to_category: class number to category id.
        has_annotations: whether the file has 'annotations'; files of test images have none.
        reading: what became of the annotations; a warning has said it.
        coco: pycocotools' index of the file, without unusable annotations (see
            :func:`detectron_ext.data.ground_truth.remove_unusable`).

    Raises:
        DatasetError: the file is missing, not JSON or not COCO format, or the image folder is
            missing.
    """

    def __init__(self, entry: DatasetEntry):
        self.name = entry.name
        self._entry = entry
        content = read_annotations(entry)
        if not os.path.isdir(entry.im_dir):
            raise DatasetError(f"data set {entry.name}: image folder {entry.im_dir} not found")
        self.has_annotations = "annotations" in content
        self.coco, self.reading = _index_usable(content, entry)
        categories = content["categories"]
        self.classes = [BACKGROUND_NAME] + [category["name"] for category in categories]
        self.num_classes = len(self.classes)
        self.contiguous_to_category = {
            number: category["id"] for number, category in enumerate(categories, start=1)
        }
        self.category_to_contiguous = {
            category: number for number, category in self.contiguous_to_category.items()
        }
        remember_files(self.name, self.annotated_files())

    def records(
        self,
        with_ground_truth: bool,
        config: Settings,
        skip_bad_images: bool = False,
        check_files: bool = True,
    ) -> list[ImageRecord]:
        """Return one record for each image, ordered by image id.

        Args:
            with_ground_truth: whether the records get ground-truth boxes; testing needs none.
            config: a merged configuration; it uses TRAIN.GT_MIN_AREA.
            skip_bad_images: leave out images whose file is missing, with a warning.
            check_files: False returns the records of missing files, too; nothing is said about
                them.

        Raises:
            DatasetError: an image file is missing, or ground truth is wanted and the annotation
                file has none.
        """
        if with_ground_truth and not self.has_annotations:
            raise DatasetError(f"{self._entry.ann_fn}: has no 'annotations' to train on")
        left_out: Counter = Counter()
        images = self._existing_images(skip_bad_images) if check_files else self._images()
        records = [self._record(image, with_ground_truth, config, left_out) for image in images]
        if left_out:
            _LOG.warning("%s: %s", self.name, training_summary(left_out))
        return records

    def image_ids(self) -> list:
        """Return the ids of all images, in the order of :meth:`records`."""
        return sorted(self.coco.imgs)

    def _images(self) -> list[dict]:
        return [self.coco.imgs[image_id] for image_id in self.image_ids()]

    def _existing_images(self, skip_missing: bool) -> list[dict]:
        images = self._images()
        missing = [image for image in images if not os.path.isfile(self._path(image))]
        if not missing:
            return images
        first = self._path(missing[0])
        if not skip_missing:
            more = f" ({len(missing)} images are missing)" if len(missing) > 1 else ""
            raise DatasetError(
                f"data set {self.name}: image {first} not found{more}; "
                "to skip them, set LIBRA.DATA.SKIP_BAD_IMAGES True"
            )
        _LOG.warning("%s: skipped %d missing images, first %s", self.name, len(missing), first)
        missing_ids = {image["id"] for image in missing}
        return [image for image in images if image["id"] not in missing_ids]

    def is_empty(self, image_id: int | str) -> bool:
        """Return whether an image has no annotation at all, neither a usable one nor another."""
        dropped = str(image_id) in self.reading.images_with_dropped
        return not dropped and not self.coco.imgToAnns.get(image_id)

    def annotated_files(self) -> list[AnnotatedFile]:
        """Return the file and the annotated size of each image, in the order of :meth:`records`."""
        return [
            AnnotatedFile(self._path(image), int(image["height"]), int(image["width"]))
            for image in self._images()
        ]

    def image_path(self, image_id: int | str) -> str:
        """Return the path of an image's file."""
        return self._path(self.coco.imgs[image_id])

    def _path(self, image: dict) -> str:
        return os.path.join(self._entry.im_dir, self._entry.im_prefix + image["file_name"])

    def _record(
        self, image: dict, with_ground_truth: bool, config: Settings, left_out: Counter
    ) -> ImageRecord:
        height, width = int(image["height"]), int(image["width"])
        annotations = self.coco.imgToAnns.get(image["id"], []) if with_ground_truth else []
        boxes, kept = trainable_boxes(
            annotations, height, width, config.TRAIN.GT_MIN_AREA, left_out
        )
        classes = [self.category_to_contiguous[annotation["category_id"]] for annotation in kept]
        return ImageRecord(
            image_id=image["id"],
            path=self._path(image),
            height=height,
            width=width,
            boxes=boxes,
            classes=np.array(classes, dtype=np.int32),
            is_crowd=np.array([bool(annotation["iscrowd"]) for annotation in kept], dtype=bool),
            flipped=False,
            dataset_name=self.name,
        )


def read_ground_truth(entry: DatasetEntry, required: bool = True) -> COCO:
    """Return the annotations of a data set like ``CocoDataset.coco``, without needing its images.

    A warning says what was left out, as when a `CocoDataset` is made.

    Args:
        entry: the data set.
        required: whether the file must have 'annotations'.

    Raises:
        DatasetError: the file is missing, not JSON or not COCO format, or lacks the annotations
            that are required.
    """
    content = read_annotations(entry)
    if required and "annotations" not in content:
        raise DatasetError(f"{entry.ann_fn}: has no 'annotations' to score with")
    return _index_usable(content, entry)[0]


def num_objects(coco: COCO) -> int:
    """Return the number of annotations that are objects and no crowds."""
    return sum(not annotation["iscrowd"] for annotation in coco.anns.values())


def _index_usable(content: dict, entry: DatasetEntry) -> tuple[COCO, Reading]:
    """Return the index of the usable annotations, and say which were left out."""
    reading = remove_unusable(content)
    if reading.summary():
        _warn_once(f"{entry.name}: {reading.summary()}", entry.ann_fn)
    return _index(content), reading


@lru_cache(maxsize=None)
def _warn_once(message: str, ann_fn: str) -> None:
    """Log the warning about a file once, although a run may read the file several times."""
    _LOG.warning("%s", message)


def _index(content: dict) -> COCO:
    """Let pycocotools index checked content, without the lines that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
    return coco
