"""The annotations of a data set as arrays, and their counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectron_ext.counted import counted
from detectron_ext.data.annotation_columns import numbers
from detectron_ext.data.coco_dataset import CocoDataset

# Areas in pixels that COCO's scores are divided by.
_COCO_SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}


class AnnotationTable(NamedTuple):
    """The N annotations of a data set that its reader kept, and its I images.

    Attributes:
        name: catalog name of the data set.
        classes: class names, background first.
        image_ids: ids of the images, in the reader's order.
        widths, heights: (I,) float64 sizes of the images in pixels.
        image: (N,) int64, index of each annotation's image.
        category: (N,) int64 class numbers, from 1.
        boxes: (N, 4) float64 x, y, width, height, as annotated.
        crowd: (N,) bool.
        ids: ids of the annotations.
    """

    name: str
    classes: list
    image_ids: list
    widths: np.ndarray
    heights: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    ids: list

    @classmethod
    def of(cls, dataset: CocoDataset) -> AnnotationTable:
        """Read the table of a data set."""
        image_ids = dataset.image_ids()
        images = [dataset.coco.imgs[image_id] for image_id in image_ids]
        columns = dataset.columns
        return cls(
            name=dataset.name,
            classes=dataset.classes,
            image_ids=image_ids,
            widths=numbers(image["width"] for image in images),
            heights=numbers(image["height"] for image in images),
            image=columns.image,
            category=columns.category,
            boxes=columns.boxes,
            crowd=columns.crowd,
            ids=[a["id"] for a in dataset.coco.dataset.get("annotations", [])],
        )

    @property
    def boxes_per_image(self) -> np.ndarray:
        """(I,) int64 numbers of objects without crowds."""
        return np.bincount(self.image[~self.crowd], minlength=len(self.image_ids))

    def boxes_per_class(self) -> dict[str, tuple[int, int]]:
        """Return class name to its numbers of boxes and of images with one, without crowds."""
        real = ~self.crowd
        boxes = np.bincount(self.category[real], minlength=len(self.classes))
        num_images = max(1, len(self.image_ids))
        pairs = np.unique(self.category[real] * num_images + self.image[real])
        images = np.bincount(pairs // num_images, minlength=len(self.classes))
        return {
            name: (int(boxes[number]), int(images[number]))
            for number, name in enumerate(self.classes)
            if number
        }


def count_lines(table: AnnotationTable) -> list[str]:
    """Return the counts of a data set as lines of text.

    They tell the numbers of images, boxes and crowds, the sizes by COCO's limits, the quantiles of
    sides, aspect ratios (height / width) and boxes per image, and the boxes of each class.
    """
    real = ~table.crowd
    width, height = table.boxes[real, 2], table.boxes[real, 3]
    empty = int(np.count_nonzero(table.boxes_per_image == 0))
    lines = [
        f"{counted(len(table.image_ids), 'image')}, "
        f"{counted(np.count_nonzero(real), 'box', 'boxes')}, "
        f"{counted(np.count_nonzero(table.crowd), 'crowd')}, "
        f"{counted(empty, 'image')} without boxes, "
        f"{counted(len(table.classes) - 1, 'class', 'classes')}",
        _quantiles("image width", table.widths) + "; " + _quantiles("height", table.heights),
    ]
    if np.any(real):
        area = width * height
        sizes = ", ".join(
            f"{np.count_nonzero((area >= low) & (area < high))} {name}"
            for name, (low, high) in _COCO_SIZES.items()
        )
        positive = (width > 0) & (height > 0)
        lines += [
            f"sizes by COCO's limits of 32 and 96 pixels: {sizes}",
            _quantiles("box width", width) + "; " + _quantiles("height", height),
            _quantiles("height / width of a box", height[positive] / width[positive]),
            _quantiles("boxes per image", table.boxes_per_image),
        ]
    return lines


def _quantiles(name: str, values: np.ndarray) -> str:
    if not len(values):
        return f"{name} -"
    low, median, high = np.quantile(values, (0.0, 0.5, 1.0))
    return f"{name} {_rounded(low)} to {_rounded(high)}, median {_rounded(median)}"


def _rounded(value: float) -> str:
    """Return a number with three digits, or as an integer if it is large."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
