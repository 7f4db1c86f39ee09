"""Quick looks at whole columns of annotation files.

An annotation file may hold a million boxes. Nearly all of them are as they should be, so whole
columns are looked at first. Only what does not pass is examined one by one, by the rules that
`annotation_file` and `ground_truth` state. Nothing that these rules refuse may pass here.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import numpy as np

from detectron_ext.limits import MAX_IMAGE_SIDE

# Larger whole numbers are examined one by one: some are larger than every float.
_LARGEST = 2**53
_NUMBERS = {int, float}
_OPTIONAL = {int, float, bool, type(None)}


def passes_checks(section: str, items: Sequence[Any]) -> bool:
    """Return whether all items of a section of COCO content surely have the right structure.

    Args:
        section: "images" or "annotations"; others never pass.
        items: the items, of any types.
    """
    check = _SECTIONS.get(section)
    if check is None or set(map(type, items)) != {dict}:
        return False
    try:
        return check(items)
    except KeyError:  # a field is missing
        return False


def _images_pass(images: Sequence[dict]) -> bool:
    names = [image["file_name"] for image in images]
    sides = [[image[side] for image in images] for side in ("width", "height")]
    return (
        _are_ids([image["id"] for image in images])
        and set(map(type, names)) == {str}
        and all(names)
        and all(set(map(type, side)) == {int} for side in sides)
        and all(min(side) >= 1 and max(side) <= MAX_IMAGE_SIDE for side in sides)
    )


def _annotations_pass(annotations: Sequence[dict]) -> bool:
    boxes = [annotation["bbox"] for annotation in annotations]
    return (
        all(_are_ids([a[field] for a in annotations]) for field in _IDS)
        and set(map(type, boxes)) == {list}
        and set(map(len, boxes)) == {4}
        and set(map(type, chain.from_iterable(boxes))) <= _NUMBERS
        and all({type(a.get(field)) for a in annotations} <= _OPTIONAL for field in _FLAGS)
    )


_IDS = ("id", "image_id", "category_id")
_FLAGS = ("area", "iscrowd", "ignore")
_SECTIONS: dict[str, Callable[[Sequence[dict]], bool]] = {
    "images": _images_pass,
    "annotations": _annotations_pass,
}


def _are_ids(values: Sequence) -> bool:
    types = set(map(type, values))
    return types == {str} or (
        types == {int} and min(values) > -_LARGEST and max(values) < _LARGEST
    )  # fmt: skip


def usable_boxes(content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return which annotations are surely usable, and how far their boxes exceed their images.

    Args:
        content: COCO content of the right structure; its annotations have ``area``.

    Returns:
        usable: (N,) bool. False means that the annotation must be examined.
        excess: (N,) float64 in pixels; not above 0 for a box inside its image. It is meaningless
            where ``usable`` is False.
    """
    annotations = content.get("annotations", ())
    unknown = np.zeros(len(annotations), dtype=bool), np.zeros(len(annotations))
    areas = [annotation["area"] for annotation in annotations]
    if not set(map(type, areas)) <= _NUMBERS:
        return unknown
    try:
        boxes = numbers(chain.from_iterable(a["bbox"] for a in annotations)).reshape(-1, 4)
        area = numbers(areas)
    except OverflowError:  # a whole number that is larger than every float
        return unknown
    image = positions(annotations, "image_id", [image["id"] for image in content["images"]])
    category = positions(annotations, "category_id", [c["id"] for c in content["categories"]])
    sides = [numbers(image[side] for image in content["images"]) for side in ("width", "height")]
    x, y, width, height = boxes.T
    known = (image >= 0) & (category >= 0)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(area)
    usable = known & finite & (width > 0) & (height > 0) & (area > 0)
    image_width, image_height = (
        side[image] if len(side) else np.zeros(len(image)) for side in sides
    )
    with np.errstate(over="ignore", invalid="ignore"):
        usable &= (x < image_width) & (y < image_height) & (x + width > 0) & (y + height > 0)
        beyond = np.maximum(x + width - image_width, y + height - image_height)
        return usable, np.maximum(beyond, np.maximum(-x, -y))


class Columns(NamedTuple):
    """The N usable annotations of a data set as arrays, in the order of the file.

    Attributes:
        image: (N,) int64, position of each one's image in a list of images.
        category: (N,) int64 class numbers, from 1.
        boxes: (N, 4) float64 x, y, width, height, as annotated.
        area: (N,) float64 in pixels.
        crowd, ignored: (N,) bool, whether it is a crowd, and whether it is marked ``ignore``.
    """

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(cls, annotations: Sequence[dict], image_ids: Sequence, categories: Sequence) -> Columns:
        """Read the columns of annotations that `ground_truth.remove_unusable` kept.

        Args:
            annotations: the annotations.
            image_ids: ids of the images, which the positions refer to.
            categories: ids of the categories, in the order of class numbers.
        """
        return cls(
            image=positions(annotations, "image_id", image_ids),
            category=positions(annotations, "category_id", categories) + 1,
            boxes=numbers(chain.from_iterable(a["bbox"] for a in annotations)).reshape(-1, 4),
            area=numbers(annotation["area"] for annotation in annotations),
            crowd=np.array([annotation["iscrowd"] for annotation in annotations], dtype=bool),
            ignored=np.array([is_marked_ignore(a) for a in annotations], dtype=bool),
        )

    def part(self, chosen: np.ndarray) -> Columns:
        """Return some of the annotations, chosen by an index array or by (N,) bool."""
        return Columns(*(column[chosen] for column in self))


def is_marked_ignore(annotation: dict) -> bool:
    """Return whether an annotation is marked ``ignore``, as in Detectron."""
    return annotation.get("ignore") == 1


def numbers(values: Iterable) -> np.ndarray:
    """Return numbers as (N,) float64. A whole number above every float is an OverflowError."""
    return np.fromiter(values, dtype=np.float64)


def positions(annotations: Sequence[dict], field: str, identities: Sequence) -> np.ndarray:
    """Return where the value of a field stands among ids: (N,) int64; -1 if it does not."""
    number = {identity: index for index, identity in enumerate(identities)}
    return np.fromiter(
        (number.get(annotation[field], -1) for annotation in annotations),
        dtype=np.int64,
        count=len(annotations),
    )
