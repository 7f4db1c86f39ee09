"""Annotations of a data set with the faults mended that have only one remedy."""

from __future__ import annotations

from typing import Collection

import numpy as np

from detectron_ext.counted import counted
from detectron_ext.data.coco_dataset import CocoDataset
from detectron_ext.data.ground_truth import DROPPED
from detectron_ext.data_check.annotation_checks import corner_coordinates, same_boxes
from detectron_ext.data_check.annotation_table import AnnotationTable


def repaired(
    dataset: CocoDataset, table: AnnotationTable, missing: Collection
) -> tuple[dict, list[str]]:
    """Return COCO content without the faults that can be mended, and what was changed.

    Images without a file and their annotations are left out, and so is what the reader left out.
    Corners become x, y, width, height. Boxes are clipped to their image; those without area and
    repeated ones are left out. Images are not joined and not moved between data sets.

    Args:
        dataset: the data set.
        table: its annotations.
        missing: ids of the images whose file does not exist.

    Returns:
        The content, and a line for each kind of change with its number.
    """
    content = dataset.coco.dataset
    gone = set(missing)
    boxes, changes = table.boxes, []
    is_converted = corner_coordinates(table)
    if is_converted:
        boxes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
        changes.append(f"{_boxes(len(boxes))} converted from corners")
    clipped = _clipped(boxes, table)
    moved = np.abs(clipped - boxes).max(axis=1, initial=0) > 0
    repeated = np.zeros(len(boxes), dtype=bool)
    repeated[same_boxes(table, with_class=True)] = True
    lost = np.array([table.image_ids[n] in gone for n in table.image], dtype=bool)
    flat = ~(clipped[:, 2:] > 0).all(axis=1) & ~lost
    repeated &= ~(lost | flat)
    kept = ~(lost | flat | repeated)
    if gone:
        changes.append(f"{counted(len(gone), 'image')} without a file left out")
    for which, what in (
        (lost, "of such images left out"),
        (flat, "without area left out"),
        (repeated, "left out as a repetition"),
        (moved & kept, "clipped to the image"),
    ):
        if which.any():
            changes.append(f"{_boxes(np.count_nonzero(which))} {what}")
    mended = {**content}
    # An image whose objects are left out is not empty.
    left_out = {table.image_ids[n] for n in table.image[flat]}
    mended["images"] = [
        {**image, DROPPED: True} if image["id"] in left_out else image
        for image in content["images"]
        if image["id"] not in gone
    ]
    if dataset.has_annotations:
        changed = moved | is_converted
        mended["annotations"] = [
            _mended(annotation, clipped[n].tolist() if changed[n] else None)
            for n, annotation in enumerate(content["annotations"])
            if kept[n]
        ]
    return mended, changes


def _boxes(count: int) -> str:
    return counted(count, "box", "boxes")


def _mended(annotation: dict, box: list | None) -> dict:
    """Return a copy of an annotation, with a new box if it has one."""
    copy = {**annotation, "iscrowd": int(annotation["iscrowd"])}
    return copy if box is None else {**copy, "bbox": box, "area": box[2] * box[3]}


def _clipped(boxes: np.ndarray, table: AnnotationTable) -> np.ndarray:
    """Return x, y, width, height clipped to the images; sides may become 0 or negative."""
    size = np.stack((table.widths[table.image], table.heights[table.image]), axis=1)
    first = np.clip(boxes[:, :2], 0, size)
    last = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    # A box inside keeps its very numbers.
    inside = (first == boxes[:, :2]) & (boxes[:, :2] + boxes[:, 2:] <= size)
    sides = np.where(inside, boxes[:, 2:], last - first)
    return np.concatenate((first, sides), axis=1)
