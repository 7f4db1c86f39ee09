"""Proposals files: the proposals that an RPN made before, in Detectron's ``rpn_proposals.pkl``.

A file is a pickle of ``{"boxes": [(P, 4) array, ...], "scores": [(P,) array, ...], "ids": [image
id, ...]}`` with one element per image. Boxes are in pixels of the image file, best score first.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from detectron_ext.array_pickle import read_pickle, write_pickle
from detectron_ext.data.image_record import ImageRecord
from detectron_ext.errors import DatasetError, shown
from detectron_ext.geometry.boxes import clip_to_image, mirror, widths_heights
from detectron_ext.limits import MAX_DETECTION_NUMBER
from detectron_ext.local_files import local_file

_LOG = logging.getLogger(__name__)

# A proposal's sides must be longer than this, in pixels of the image file.
_MIN_SIDE = 2


def proposal_paths(files: Sequence[str], datasets: Sequence[str], setting: str) -> list[str]:
    """Check that each data set has a proposals file on this machine, and return the paths.

    Args:
        files: value of the setting.
        datasets: names of the data sets.
        setting: "TRAIN.PROPOSAL_FILES" or "TEST.PROPOSAL_FILES", for messages.

    Raises:
        DatasetError: the numbers of files and data sets differ, or a file is missing.
    """
    if len(files) != len(datasets):
        raise DatasetError(
            f"{setting} names {len(files)} files for {len(datasets)} data sets "
            f"({', '.join(datasets)}): Fast R-CNN needs one for each. Testing a model with "
            "MODEL.RPN_ONLY writes them; a model with MODEL.FASTER_RCNN True needs none"
        )
    advice = f"set {setting} to the file"
    return [local_file(path, "proposals", advice, DatasetError) for path in files]


def with_proposals(records: Sequence[ImageRecord], path: str) -> list[ImageRecord]:
    """Return the records with the proposals of a file.

    The file may have more images than the records, as in Detectron: one file serves a data set and
    parts of it.

    Raises:
        DatasetError: the file cannot be read, is not a proposals file, or lacks an image.
    """
    boxes = _read_boxes(path)
    missing = [record.image_id for record in records if record.image_id not in boxes]
    if missing:
        raise DatasetError(
            f"proposals {path} lack {len(missing)} of the {len(records)} images of data set "
            f"{records[0].dataset_name}, first id {missing[0]}: name the file of this data set"
        )
    _LOG.info("%s: proposals of %d images", path, len(boxes))
    return [replace(record, proposals=boxes[record.image_id]) for record in records]


def usable_proposals(record: ImageRecord, limit: int = 0) -> np.ndarray:
    """Return the proposals of a record, clipped to the image and mirrored if the record is.

    A proposal is left out if it rounds to the same pixels as an earlier one, or if one of its sides
    is at most 2 pixels long.

    Args:
        record: the image; its proposals may be None.
        limit: largest number of proposals, the first in the file; 0 or less takes all.

    Returns:
        (P, 4) float32 in pixels of the image; P is 0 without a proposals file.
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
    """Write a proposals file that Detectron can read.

    Args:
        path: the file.
        image_ids: ids of the images.
        boxes: a (P, 4) float32 array for each image, in its pixels, best score first.
        scores: a (P,) float32 array for each image.
        cfg: YAML text of the configuration that made the proposals.

    Raises:
        UserError: the file cannot be written.
    """
    content = {"boxes": boxes, "scores": scores, "ids": image_ids, "cfg": cfg}
    write_pickle(path, content)


def read_scored_proposals(path: str) -> list[tuple] | None:
    """Read a proposals file with its scores; return None if it is a pickle of something else.

    Returns:
        (image id, boxes (P, 4), scores (P,)) of each image, in the order of the file.

    Raises:
        DatasetError: the file cannot be read or is damaged.
    """
    content = read_pickle(path, "proposals", DatasetError)
    if not isinstance(content, dict) or not {"boxes", "scores"} <= content.keys():
        return None
    boxes, scores = _read_boxes(path), _as_list(content["scores"])
    if scores is None or len(scores) != len(boxes):
        raise DatasetError(f"proposals {path} have no list 'scores' of all images")
    proposals = []
    for (image_id, array), values in zip(boxes.items(), scores):
        flat = _as_array(values)
        if flat.shape != (len(array),) or flat.dtype.kind not in "fiu":
            raise DatasetError(f"proposals {path}: image {image_id} has not one score for each box")
        if not (np.abs(flat) <= MAX_DETECTION_NUMBER).all():
            raise DatasetError(f"proposals {path}: a score of image {image_id} is not finite")
        proposals.append((image_id, array, flat))
    return proposals


def _as_array(values: Any) -> np.ndarray:
    """Return values as an array; one that holds no number if they are not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.VisibleDeprecationWarning)
            return np.asarray(values)
    except (np.VisibleDeprecationWarning, TypeError, ValueError):
        return np.array(None)


def _as_list(value: Any) -> list | None:
    """Return the elements of a list or array; None if the value is neither."""
    is_list = isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return list(value) if is_list else None


def _read_boxes(path: str) -> dict[Any, np.ndarray]:
    """Return image id to boxes (P, 4)."""
    content = read_pickle(path, "proposals", DatasetError)
    # Detectron's oldest files call the ids indexes.
    fields = content if isinstance(content, dict) else {}
    ids = _as_list(fields.get("ids", fields.get("indexes")))
    boxes = _as_list(fields.get("boxes"))
    if ids is None or boxes is None:
        raise DatasetError(
            f"{path} is not a proposals file: it has no lists 'boxes' and 'ids' of the images"
        )
    if len(ids) != len(boxes):
        raise DatasetError(f"proposals {path} hold boxes of {len(boxes)} images but {len(ids)} ids")
    by_id: dict[Any, np.ndarray] = {}
    for image_id, array in zip(ids, boxes):
        if not isinstance(image_id, (int, float, str, np.number)):
            raise DatasetError(f"proposals {path}: {shown(image_id)} is not an image id")
        if image_id in by_id:
            raise DatasetError(f"proposals {path} name image {image_id} twice")
        array = _as_array(array)
        if array.size == 0:
            array = np.zeros((0, 4), dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "fiu":
            raise DatasetError(
                f"proposals {path}: boxes of image {image_id} are not (P, 4) numbers"
            )
        if not (np.abs(array) <= MAX_DETECTION_NUMBER).all():
            raise DatasetError(f"proposals {path}: a box of image {image_id} is not finite")
        by_id[image_id] = array
    return by_id
