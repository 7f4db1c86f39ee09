"""Proposals that an RPN made beforehand: Detectron's ``rpn_proposals.pkl``.

A file is a pickle of ``{"boxes": [(P, 4) array, ...], "scores": [(P,) array, ...], "ids": [image
id, ...]}``, one element an image, the boxes in pixels of the image file and best first.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.errors import DatasetError
from detectron_ext.geometry.boxes import clip_to_image, mirror, widths_heights
from detectron_ext.local_files import local_file

_LOG = logging.getLogger(__name__)

# A proposal's sides must be longer than this, in pixels of the image file.
_MIN_SIDE = 2


def proposal_paths(files: Sequence[str], datasets: Sequence[str], setting: str) -> list[str]:
    """Check that there is a proposals file on this machine for each data set; returns the paths.

    Args:
        files: value of the setting.
        datasets: the data sets' names.
        setting: "TRAIN.PROPOSAL_FILES" or "TEST.PROPOSAL_FILES".

    Raises:
        DatasetError: their numbers differ, or a file is not here.
    """
    if len(files) != len(datasets):
        raise DatasetError(
            f"{setting} names {len(files)} files for {len(datasets)} data sets "
            f"({', '.join(datasets)}): Fast R-CNN needs one for each; testing an RPN-only model "
            "writes them, and MODEL.FASTER_RCNN True does without"
        )
    advice = f"set {setting} to the file"
    return [local_file(path, "proposals", advice, DatasetError) for path in files]


def with_proposals(records: Sequence[ImageRecord], path: str) -> list[ImageRecord]:
    """The records with their images' proposals from a file.

    Images of the file that are not among the records are passed over, as Detectron does: one file
    serves a data set and parts of it.

    Raises:
        DatasetError: the file cannot be read, is not one of proposals, or lacks an image.
    """
    boxes = _read_boxes(path)
    missing = [record.image_id for record in records if record.image_id not in boxes]
    if missing:
        raise DatasetError(
            f"proposals {path} lack {len(missing)} of the {len(records)} images of data set "
            f"{records[0].dataset_name}, id {missing[0]} for one: name the file made for it"
        )
    _LOG.info("%s: proposals of %d images", path, len(boxes))
    return [replace(record, proposals=boxes[record.image_id]) for record in records]


def usable_proposals(record: ImageRecord, limit: int = 0) -> np.ndarray:
    """Proposals of a record's image, mirrored if the record is.

    They are clipped to the image; one that rounds to the same pixels as an earlier one, or with a
    side of at most 2 pixels, is left out.

    Args:
        record: its proposals may be None.
        limit: at most so many, the first in the file; 0 or less takes all.

    Returns:
        (P, 4) float32 in pixels of the image; none without a proposals file.
    """
    if record.proposals is None:
        return np.zeros((0, 4), dtype=np.float32)
    boxes = clip_to_image(record.proposals.astype(np.float32), record.height, record.width)
    corners = np.round(boxes).astype(np.uint64)
    keys = (corners << np.array([0, 16, 32, 48], dtype=np.uint64)).sum(axis=1)
    boxes = boxes[np.sort(np.unique(keys, return_index=True)[1])]
    width, height = widths_heights(boxes)
    boxes = boxes[(width > _MIN_SIDE) & (height > _MIN_SIDE)][: limit if limit > 0 else None]
    return mirror(boxes, record.width) if record.flipped else boxes


def write_proposals(path: str, image_ids: list, boxes: list, scores: list, cfg: str) -> None:
    """Write a proposals file that Detectron reads too.

    Args:
        image_ids: of the images.
        boxes: an (P, 4) array for each, in pixels of the image, best first.
        scores: a (P,) array for each.
        cfg: YAML text of the configuration they were made with.

    Raises:
        UserError: it cannot be written.
    """
    content = {"boxes": boxes, "scores": scores, "ids": image_ids, "cfg": cfg}
    write_pickle(path, content)


def _read_boxes(path: str) -> dict[Any, np.ndarray]:
    """Image id to boxes (P, 4)."""
    content = read_pickle(path, "proposals", DatasetError)
    # Detectron's oldest files call the ids indexes.
    ids = content.get("ids", content.get("indexes")) if isinstance(content, dict) else None
    boxes = content.get("boxes") if isinstance(content, dict) else None
    if not isinstance(ids, (list, np.ndarray)) or not isinstance(boxes, (list, np.ndarray)):
        raise DatasetError(f"proposals {path} are no lists of 'boxes' and 'ids', one an image")
    if len(ids) != len(boxes):
        raise DatasetError(f"proposals {path} hold boxes of {len(boxes)} images but {len(ids)} ids")
    by_id: dict[Any, np.ndarray] = {}
    for image_id, array in zip(ids, boxes):
        if not isinstance(image_id, (int, float, str, np.number)):
            raise DatasetError(f"proposals {path}: {image_id!r} is no image id")
        if image_id in by_id:
            raise DatasetError(f"proposals {path} name image {image_id} twice")
        array = np.asarray(array)
        if array.size == 0:
            array = np.zeros((0, 4), dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "fiu":
            raise DatasetError(f"proposals {path}: boxes of image {image_id} are no (P, 4) numbers")
        if not np.isfinite(array).all():
            raise DatasetError(f"proposals {path}: a box of image {image_id} is not finite")
        by_id[image_id] = array
    return by_id
