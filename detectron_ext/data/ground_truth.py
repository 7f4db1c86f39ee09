"""Which annotations are used, and how it is said.

There are two steps. The first is the same for training, testing, comparing and drawing:
`remove_unusable` leaves out what no program could use, when the file is read. The second is
training's own: `trainable_boxes` applies Detectron's rules, which clip boxes to the image and leave
out those that are marked ``ignore``, too thin, or smaller than TRAIN.GT_MIN_AREA. Detectron does
all this silently; here everything is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np

from detectron_ext.counted import counted
from detectron_ext.data.annotation_columns import Columns, is_marked_ignore, usable_boxes
from detectron_ext.data.annotation_file import is_finite
from detectron_ext.geometry.boxes import clip_to_images, from_xywh

DROPPED = "annotations_dropped"
"""Field of an image: whether it shows objects whose annotations were dropped."""

# Annotation tools round to hundredths of a pixel; a smaller excess is not worth a warning.
_TOLERANCE = 0.02


@dataclass
class Reading:
    """What became of the annotations of a file when it was read.

    Attributes:
        num_annotations: number of annotations in the file.
        dropped: reason to the ids of the annotations that were left out.
        num_ignored: number of the others that are marked ``ignore``.
        num_beyond: number of the others that reach beyond their image.
        images_with_dropped: ids, as text, of the images that annotations were dropped of.
    """

    num_annotations: int = 0
    dropped: dict[str, list] = field(default_factory=dict)
    num_ignored: int = 0
    num_beyond: int = 0
    images_with_dropped: set = field(default_factory=set)

    @property
    def num_dropped(self) -> int:
        """Number of annotations that were left out."""
        return sum(map(len, self.dropped.values()))

    def summary(self) -> str:
        """Return one line; it is empty if every annotation is used as it is.

        For example "3 of 40 boxes dropped: 2 zero-sized (annotation 7, ...), 1 with an unknown
        category_id (annotation 9); 1 marked ignore: not trained, and scored like a crowd".
        """
        parts = []
        if self.num_dropped:
            by_count = sorted(self.dropped.items(), key=lambda item: -len(item[1]))
            reasons = ", ".join(
                f"{len(ids)} {reason} (annotation {ids[0]}{', ...' if len(ids) > 1 else ''})"
                for reason, ids in by_count
            )
            parts.append(f"{self.num_dropped} of {_boxes(self.num_annotations)} dropped: {reasons}")
        if self.num_ignored:
            parts.append(f"{self.num_ignored} marked ignore: not trained, and scored like a crowd")
        if self.num_beyond:
            parts.append(
                f"{self.num_beyond} reaching beyond the image: clipped in training and pictures, "
                "and scored as annotated"
            )
        return "; ".join(parts)


def remove_unusable(content: dict[str, Any]) -> Reading:
    """Remove unusable annotations from COCO content, in place, and complete the others.

    An annotation is unusable if its image or category is unknown, if a coordinate or its area is
    not finite, or if its box has no pixel in the image or its area is not above 0. Nobody can
    detect such an object. A missing ``area`` becomes that of the box, a missing ``iscrowd`` becomes
    False. A box that is marked ``ignore`` becomes a crowd, which is neither missed nor false when
    detections are scored; training leaves it out.

    Args:
        content: checked content of an annotation file.
    """
    annotations = content.get("annotations", ())
    for annotation in annotations:
        if annotation.get("area") is None:
            annotation["area"] = _box_area(annotation["bbox"])
        annotation["iscrowd"] = bool(annotation.get("iscrowd")) or is_marked_ignore(annotation)
    reading = Reading(num_annotations=len(annotations))
    usable, excess = usable_boxes(content)
    _examine(content, usable, excess, reading)
    reading.num_beyond = int(np.count_nonzero(excess[usable] > _TOLERANCE))
    _remember_dropped(content, reading)
    if "annotations" in content:
        content["annotations"] = list(compress(annotations, usable.tolist()))
    reading.num_ignored = sum(map(is_marked_ignore, content.get("annotations", ())))
    return reading


def _remember_dropped(content: dict[str, Any], reading: Reading) -> None:
    """Mark the images that annotations were dropped of, and read the marks of earlier programs.

    A file that is made of the content shows by the marks which images are not empty, though they
    have no annotations.
    """
    for image in content["images"]:
        if image.get(DROPPED):
            reading.images_with_dropped.add(str(image["id"]))
        elif str(image["id"]) in reading.images_with_dropped:
            image[DROPPED] = True


def _examine(
    content: dict[str, Any], usable: np.ndarray, excess: np.ndarray, reading: Reading
) -> None:
    """Examine the annotations that are not surely usable.

    Args:
        content: COCO content; its annotations are complete.
        usable, excess: the result of `usable_boxes`; both are set for each one that is examined.
        reading: gets the annotations that cannot be used.
    """
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    id_texts = {"images": set(map(str, images)), "categories": set(map(str, categories))}
    for index in np.flatnonzero(~usable):
        annotation = content["annotations"][index]
        reason = _why_unusable(annotation, images, categories, id_texts)
        if reason:
            reading.dropped.setdefault(reason, []).append(annotation["id"])
            reading.images_with_dropped.add(str(annotation["image_id"]))
        else:
            usable[index] = True
            excess[index] = _excess(annotation["bbox"], images[annotation["image_id"]])


def _box_area(bbox: list) -> float:
    """Return the area of a box; NaN if a side is larger than every float."""
    return bbox[2] * bbox[3] if all(map(is_finite, bbox[2:])) else math.nan


def _why_unusable(annotation: dict, images: dict, categories: set, id_texts: dict[str, set]) -> str:
    """Return why an annotation cannot be used; empty if it can.

    Args:
        annotation: the annotation, completed.
        images: the images by their ids.
        categories: ids of the categories.
        id_texts: the ids of images and categories as text, to tell "7" from 7.
    """
    image = images.get(annotation["image_id"])
    if image is None:
        return _why_unknown("images", "image_id", annotation, id_texts)
    if annotation["category_id"] not in categories:
        return _why_unknown("categories", "category_id", annotation, id_texts)
    if not all(map(is_finite, (*annotation["bbox"], annotation["area"]))):
        return "non-finite"
    x, y, width, height = annotation["bbox"]
    if width <= 0 or height <= 0:
        return "zero-sized"
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        return "outside the image"
    return "" if annotation["area"] > 0 else "zero area"


def _why_unknown(section: str, field: str, annotation: dict, id_texts: dict[str, set]) -> str:
    identity = annotation[field]
    if str(identity) not in id_texts[section]:
        return f"with an unknown {field}"
    here, there = ("text", "numbers") if isinstance(identity, str) else ("a number", "text")
    return f"whose {field} is {here} although the ids of '{section}' are {there}"


def _excess(bbox: list, image: dict[str, Any]) -> float:
    """Return how far a box reaches beyond its image, in pixels; not above 0 if it does not."""
    x, y, width, height = bbox
    return max(-x, -y, x + width - image["width"], y + height - image["height"])


def trainable_boxes(
    columns: Columns, heights: np.ndarray, widths: np.ndarray, min_area: float, left_out: Counter
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to their images and tell which ones training uses.

    Args:
        columns: N usable annotations, of one image or of many.
        heights, widths: (N,) sizes of their images in pixels.
        min_area: smallest area in pixels (TRAIN.GT_MIN_AREA).
        left_out: counts the boxes that are left out, by reason. Those that are marked ``ignore``
            are not counted, because the file's `Reading` has counted them.

    Returns:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels, inside the images.
        trained: (N,) bool, whether training uses the box.
    """
    clipped = clip_to_images(from_xywh(columns.boxes), heights, widths)
    small = ~columns.ignored & (columns.area < min_area)
    flat = ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    thin = ~columns.ignored & ~small & flat
    for reason, boxes in (("below TRAIN.GT_MIN_AREA", small), ("one pixel thin", thin)):
        if boxes.any():
            left_out[reason] += int(np.count_nonzero(boxes))
    return clipped, ~(columns.ignored | small | thin)


def training_summary(left_out: Counter) -> str:
    """Return one line about the boxes that `trainable_boxes` counted; empty if there are none.

    For example "3 boxes not trained: 2 one pixel thin, 1 below TRAIN.GT_MIN_AREA".
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    return f"{_boxes(sum(left_out.values()))} not trained: {reasons}" if left_out else ""


def _boxes(count: int) -> str:
    return counted(count, "box", "boxes")
