"""What is suspicious in the annotations of one data set: formats, duplicates, classes."""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.counted import by_number, counted
from detectron_ext.data_check.annotation_table import AnnotationTable
from detectron_ext.data_check.finding import MAX_CASES, NO_BOXES, Case, Finding

# Nearly all boxes must fit another format, and this share must not fit COCO's.
_NEARLY_ALL = 0.99
_SOME = 0.05
# Pixels by which tools let boxes exceed an image.
_TOLERANCE = 2.0
# Boxes that differ by less are one, in pixels.
_SAME = 0.01


def check_annotations(table: AnnotationTable, config: Settings) -> list[Finding]:
    """Return what is wrong or suspicious in the annotations of a data set."""
    findings = [
        _suspicious_format(table),
        *_duplicates(table),
        _empty_classes(table),
        _too_many_boxes(table, config),
    ]
    return [finding for finding in findings if finding is not None]


def corner_coordinates(table: AnnotationTable) -> bool:
    """Return whether the boxes seem to be x1, y1, x2, y2 instead of x, y, width, height.

    As corners nearly all of them are boxes inside their images, and as COCO's boxes a part of them
    exceeds the image.
    """
    width, height = table.widths[table.image], table.heights[table.image]
    x1, y1, x2, y2 = table.boxes.T
    valid = (x2 > x1) & (y2 > y1) & (x2 <= width + _TOLERANCE) & (y2 <= height + _TOLERANCE)
    return _fits(valid, _exceeds(table))


def _fits(valid: np.ndarray, exceeds: np.ndarray) -> bool:
    if not len(valid):
        return False
    return bool(valid.mean() >= _NEARLY_ALL and exceeds.mean() >= _SOME)


def _exceeds(table: AnnotationTable) -> np.ndarray:
    """Return which boxes (N,) reach beyond their images as COCO reads them."""
    x, y, width, height = table.boxes.T
    beyond_x = x + width > table.widths[table.image] + _TOLERANCE
    return beyond_x | (y + height > table.heights[table.image] + _TOLERANCE)


def _centre_coordinates(table: AnnotationTable) -> bool:
    image_width, image_height = table.widths[table.image], table.heights[table.image]
    x, y, width, height = table.boxes.T
    valid = (x - width / 2 >= -_TOLERANCE) & (x + width / 2 <= image_width + _TOLERANCE)
    valid &= (y - height / 2 >= -_TOLERANCE) & (y + height / 2 <= image_height + _TOLERANCE)
    return _fits(valid, _exceeds(table))


def _relative_coordinates(table: AnnotationTable) -> bool:
    if not len(table.boxes):
        return False
    return bool((table.boxes <= 1).all() and (table.boxes[:, 2:] < 1).mean() >= _NEARLY_ALL)


_FORMATS: tuple[tuple[Callable[[AnnotationTable], bool], str, str], ...] = (
    (
        _relative_coordinates,
        "fractions of the image",
        "multiply them by its width and height",
    ),
    (corner_coordinates, "corners x1, y1, x2, y2", "--fix converts them"),
    (
        _centre_coordinates,
        "centre x, centre y, width, height",
        "subtract half the width and height from the first two",
    ),
)


def _suspicious_format(table: AnnotationTable) -> Finding | None:
    for seems, name, advice in _FORMATS:
        if seems(table):
            count = int(np.count_nonzero(_exceeds(table)))
            reason = "no box is a pixel wide"
            if count:
                exceeding = by_number(count, "exceeds its image", "exceed their images")
                reason = f"{count} of {counted(len(table.boxes), 'box', 'boxes')} {exceeding}"
            return Finding(
                f"{table.name}: the boxes look like {name}, but COCO's bbox is x, y, width, "
                f"height: {reason}; {advice}",
                _cases(table, np.flatnonzero(_exceeds(table)), "beyond the image"),
            )
    return None


def same_boxes(table: AnnotationTable, with_class: bool) -> np.ndarray:
    """Return the indices of annotations that repeat an earlier one of their image.

    Args:
        table: the annotations.
        with_class: whether the class must be the same, too.
    """
    columns = [table.crowd, *np.rint(table.boxes.T / _SAME).astype(np.int64)]
    if with_class:
        columns.append(table.category)
    # Few annotations repeat another one. The image, the last key, decides nearly everything.
    columns.append(table.image)
    # Sorting is stable: the first of equal annotations stays the first of them.
    order = np.lexsort(columns)
    same = np.ones(max(0, len(order) - 1), dtype=bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    return np.sort(order[1:][same])


def _duplicates(table: AnnotationTable) -> list[Finding]:
    findings = []
    twice = same_boxes(table, with_class=True)
    if len(twice):
        findings.append(
            Finding(
                f"{table.name}: {_boxes(len(twice), 'repeats', 'repeat')} another one of the same "
                f"image and class (first annotation {table.ids[twice[0]]}); --fix removes "
                f"{by_number(len(twice), 'it', 'them')}",
                _cases(table, twice, "annotated twice"),
            )
        )
    both = np.setdiff1d(same_boxes(table, with_class=False), twice)
    if len(both):
        findings.append(
            Finding(
                f"{table.name}: {_boxes(len(both), 'repeats', 'repeat')} one of another class "
                f"(first annotation {table.ids[both[0]]}): one object trains two classes; remove "
                "the wrong annotation",
                _cases(table, both, "annotated with two classes"),
            )
        )
    return findings


def _boxes(count: int, one: str, many: str) -> str:
    """Return the number of boxes and the form of the verb that fits it."""
    return f"{counted(count, 'box', 'boxes')} {by_number(count, one, many)}"


def _empty_classes(table: AnnotationTable) -> Finding | None:
    counts = table.boxes_per_class()
    empty = [name for name, (boxes, _) in counts.items() if not boxes]
    if not empty or len(empty) == len(counts):
        return None
    return Finding(
        f"{table.name}: {len(empty)} of {len(counts)} classes "
        f"{by_number(len(empty), 'has', 'have')} no box: {', '.join(empty[:10])}"
        f"{', ...' if len(empty) > 10 else ''}; annotate objects of "
        f"{by_number(len(empty), 'it, or remove it', 'them, or remove them')} from 'categories'"
    )


def _too_many_boxes(table: AnnotationTable, config: Settings) -> Finding | None:
    """Return what a test cannot find; its limit means nothing to training and to proposals."""
    if table.name not in config.TEST.DATASETS or config.MODEL.RPN_ONLY:
        return None
    counts, limit = table.boxes_per_image, config.TEST.DETECTIONS_PER_IM
    crowded = np.flatnonzero(counts > limit)
    if limit <= 0 or not len(crowded):
        return None
    worst = crowded[np.argsort(-counts[crowded], kind="stable")][:MAX_CASES]
    return Finding(
        f"{table.name}: {len(crowded)} of {counted(len(counts), 'image')} "
        f"{by_number(len(crowded), 'has', 'have')} more boxes than TEST.DETECTIONS_PER_IM {limit}, "
        f"so that a test cannot find all of them; set it to {counts.max()}",
        [Case(table.name, table.image_ids[n], NO_BOXES, f"{counts[n]} boxes") for n in worst],
    )


def _cases(table: AnnotationTable, indices: np.ndarray, caption: str) -> list[Case]:
    """Return the images with most of the given annotations."""
    images, counts = np.unique(table.image[indices], return_counts=True)
    cases = []
    for image in images[np.argsort(-counts, kind="stable")][:MAX_CASES]:
        here = indices[table.image[indices] == image]
        labels = [table.classes[number] for number in table.category[here]]
        cases.append(Case(table.name, table.image_ids[image], table.boxes[here], caption, labels))
    return cases
