"""A data set in COCO format: its classes and the records of its images."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import Counter
from functools import lru_cache, partial
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.counted import counted
from detectron_ext.data.annotation_columns import Columns
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
        self._columns: Columns | None = None
        remember_files(self.name, partial(_annotated_files, entry, content["images"]))

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
        images = self._images()
        wanted = np.ones(len(images), dtype=bool)
        if check_files:
            wanted = self._existing(images, skip_bad_images)
        truth = self._trainable(config, left_out, wanted) if with_ground_truth else _NO_BOXES
        images = list(compress(images, wanted.tolist()))
        records = [self._record(image, truth, index) for index, image in enumerate(images)]
        if left_out:
            _LOG.warning("%s: %s", self.name, training_summary(left_out))
        return records

    def image_ids(self) -> list:
        """Return the ids of all images, in the order of :meth:`records`."""
        return sorted(self.coco.imgs)

    def _images(self) -> list[dict]:
        return [self.coco.imgs[image_id] for image_id in self.image_ids()]

    def _existing(self, images: list[dict], skip_missing: bool) -> np.ndarray:
        """Return which images (I,) have a file; others are an error unless they are skipped."""
        exists = np.array([os.path.isfile(self._path(image)) for image in images], dtype=bool)
        missing = np.flatnonzero(~exists)
        if not len(missing):
            return exists
        first = self._path(images[missing[0]])
        if not skip_missing:
            more = f" ({len(missing)} images are missing)" if len(missing) > 1 else ""
            raise DatasetError(
                f"data set {self.name}: image {first} not found{more}; "
                "to skip them, set LIBRA.DATA.SKIP_BAD_IMAGES True"
            )
        number = counted(len(missing), "missing image")
        _LOG.warning("%s: skipped %s, first %s", self.name, number, first)
        return exists

    def is_empty(self, image_id: int | str) -> bool:
        """Return whether an image has no annotation at all, neither a usable one nor another."""
        dropped = str(image_id) in self.reading.images_with_dropped
        return not dropped and not self.coco.imgToAnns.get(image_id)

    def annotated_files(self) -> list[AnnotatedFile]:
        """Return the file and the annotated size of each image, in the order of :meth:`records`."""
        return _annotated_files(self._entry, self._images())

    def image_path(self, image_id: int | str) -> str:
        """Return the path of an image's file."""
        return self._path(self.coco.imgs[image_id])

    def _path(self, image: dict) -> str:
        return _image_path(self._entry, image)

    @property
    def columns(self) -> Columns:
        """The usable annotations as arrays; their images are those of :meth:`image_ids`."""
        if self._columns is None:
            annotations = self.coco.dataset.get("annotations", [])
            categories = list(self.category_to_contiguous)
            self._columns = Columns.of(annotations, self.image_ids(), categories)
        return self._columns

    def _trainable(self, config: Settings, left_out: Counter, wanted: np.ndarray) -> _Trainable:
        """Return the boxes that training uses, of images (I,) bool that are wanted."""
        columns = self.columns.part(np.flatnonzero(wanted[self.columns.image]))
        columns = columns.part(np.argsort(columns.image, kind="stable"))
        files = self._images()
        sizes = np.array([(int(f["height"]), int(f["width"])) for f in files], dtype=np.int64)
        heights, widths = sizes.reshape(-1, 2)[columns.image].T
        boxes, trained = trainable_boxes(
            columns, heights, widths, config.TRAIN.GT_MIN_AREA, left_out
        )
        counts = np.bincount(columns.image[trained], minlength=len(files))
        return _Trainable(
            boxes=boxes[trained],
            classes=columns.category[trained].astype(np.int32),
            is_crowd=columns.crowd[trained],
            ends=np.cumsum(counts[wanted]),
        )

    def _record(self, image: dict, truth: _Trainable, index: int) -> ImageRecord:
        part = truth.part(index)
        return ImageRecord(
            image_id=image["id"],
            path=self._path(image),
            height=int(image["height"]),
            width=int(image["width"]),
            boxes=truth.boxes[part],
            classes=truth.classes[part],
            is_crowd=truth.is_crowd[part],
            flipped=False,
            dataset_name=self.name,
        )


class _Trainable(NamedTuple):
    """The N boxes that training uses, image by image.

    Attributes:
        boxes, classes, is_crowd: as of `ImageRecord`, of all images.
        ends: (I,) int64, the number of boxes in each image and those before it; (0,) if no image
            has boxes.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    ends: np.ndarray

    def part(self, index: int) -> slice:
        """Return where the boxes of an image are."""
        if not len(self.ends):
            return slice(0, 0)
        return slice(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))


_NO_BOXES = _Trainable(
    boxes=np.zeros((0, 4), np.float32),
    classes=np.zeros(0, np.int32),
    is_crowd=np.zeros(0, bool),
    ends=np.zeros(0, np.int64),
)


def _image_path(entry: DatasetEntry, image: dict) -> str:
    return os.path.join(entry.im_dir, entry.im_prefix + image["file_name"])


def _annotated_files(entry: DatasetEntry, images: list[dict]) -> list[AnnotatedFile]:
    return [
        AnnotatedFile(_image_path(entry, image), int(image["height"]), int(image["width"]))
        for image in images
    ]


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
