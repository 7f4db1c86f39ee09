"""Choosing the annotated boxes that can be trained on.

The rules are Detectron's. Annotations are left out if they are marked ``ignore``, have no area or
are smaller than TRAIN.GT_MIN_AREA. Boxes are clipped to the image; those that are then not more
than one pixel wide or high are left out. Detectron does this silently; here the boxes are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectron_ext.data.annotation_file import is_finite
from detectron_ext.geometry.boxes import clip_to_image, from_xywh

# Annotation tools round to hundredths of a pixel; a smaller move is not worth a warning.
_CLIP_TOLERANCE = 0.02


@dataclass
class Tally:
    """Counts of boxes that were left out or changed.

    Attributes:
        dropped: reason to number of boxes left out.
        clipped: number of boxes that were clipped to their image.
    """

    dropped: Counter = field(default_factory=Counter)
    clipped: int = 0

    def summary(self) -> str:
        """Return one line: "3 boxes dropped (2 zero-sized, 1 unknown category), 5 clipped".

        The line is empty if no box was dropped or clipped.
        """
        parts = []
        total = sum(self.dropped.values())
        if total:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.dropped.most_common())
            parts.append(f"{total} box{'es' if total > 1 else ''} dropped ({reasons})")
        if self.clipped:
            parts.append(f"{self.clipped} clipped")
        return ", ".join(parts)


def remove_unusable(content: dict[str, Any], tally: Tally) -> None:
    """Remove unusable annotations from COCO content, in place.

    An annotation is unusable if its image or category is unknown, or if a coordinate or its area is
    not finite; training and evaluation would fail on it. A missing ``area`` becomes that of the
    box, a missing ``iscrowd`` becomes False.

    Args:
        content: checked content of an annotation file.
        tally: counts the removed annotations.
    """
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    usable = []
    for annotation in content.get("annotations", []):
        if annotation.get("area") is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["iscrowd"] = bool(annotation.get("iscrowd"))
        if annotation["image_id"] not in images:
            tally.dropped["unknown image"] += 1
        elif annotation["category_id"] not in categories:
            tally.dropped["unknown category"] += 1
        elif not all(map(is_finite, (*annotation["bbox"], annotation["area"]))):
            tally.dropped["non-finite"] += 1
        else:
            usable.append(annotation)
    if "annotations" in content:
        content["annotations"] = usable


def trainable_boxes(
    annotations: list[dict], height: int, width: int, min_area: float, tally: Tally
) -> tuple[np.ndarray, list[dict]]:
    """Clip the boxes of one image and leave out those that cannot be trained on.

    Args:
        annotations: COCO annotations of the image; all numbers are finite.
        height, width: size of the image in pixels.
        min_area: smallest area in pixels (TRAIN.GT_MIN_AREA).
        tally: counts the dropped and clipped boxes.

    Returns:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels, inside the image.
        kept: the N annotations of these boxes.
    """
    corners = from_xywh(np.array([a["bbox"] for a in annotations], dtype=np.float64))
    clipped = clip_to_image(corners, height, width)
    keep = []
    for index, (annotation, before, after) in enumerate(zip(annotations, corners, clipped)):
        reason = _reason_to_drop(annotation, before, after, min_area)
        if reason:
            tally.dropped[reason] += 1
            continue
        keep.append(index)
        tally.clipped += bool(np.abs(before - after).max() > _CLIP_TOLERANCE)
    return clipped[keep], [annotations[index] for index in keep]


def _reason_to_drop(
    annotation: dict, before: np.ndarray, after: np.ndarray, min_area: float
) -> str:
    if annotation.get("ignore") == 1:
        return "marked ignore"
    if min(annotation["bbox"][2:]) <= 0:
        return "zero-sized"
    if annotation["area"] < min_area:
        return "below TRAIN.GT_MIN_AREA"
    if annotation["area"] <= 0:
        return "zero area"
    if after[2] > after[0] and after[3] > after[1]:
        return ""
    return "one pixel thin" if np.array_equal(before, after) else "outside the image"
