"""Reading and checking COCO annotations; every mistake in them is reported in one line."""

from __future__ import annotations

import json
import math
from typing import Any

from detectron_ext.data.annotation_columns import passes_checks
from detectron_ext.errors import DatasetError, shown
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_IMAGE_SIDE, MAX_JSON_BYTES

BACKGROUND_NAME = "__background__"
"""The name of class 0, which is no category of the file."""

_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def read_json(path: str) -> Any:
    """Read a JSON file.

    Raises:
        DatasetError: it is not JSON.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_text(path, MAX_JSON_BYTES))
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{path}: not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not JSON: not UTF-8 text") from error
    except ValueError as error:
        raise DatasetError(f"{path}: it holds a number of more digits than are read") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: not COCO format: nested too deeply") from error


def check_annotations(content: Any, path: str) -> dict[str, Any]:
    """Check the structure of COCO content, and return it.

    ``images`` and ``categories`` are required. ``annotations`` may be missing, as in the files of
    test images. An annotation may lack ``area``, ``iscrowd`` and ``segmentation``. Whether boxes
    have an area and ids exist is checked later, in `data.ground_truth`.

    Args:
        content: what a file holds.
        path: that file, for messages.

    Raises:
        DatasetError: the content lacks a part or has one of the wrong type; ids are used twice, or
            are numbers and text at once; two categories have one name.
    """
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: not COCO format: the top level must be an object")
    for section in ("images", "categories"):
        if section not in content:
            raise DatasetError(f"{path}: not COCO format: it has no '{section}'")
    for section, fields in _REQUIRED.items():
        items = content.get(section, [])
        if not isinstance(items, list):
            raise DatasetError(f"{path}: not COCO format: '{section}' must be a list")
        if passes_checks(section, items) and len({item["id"] for item in items}) == len(items):
            continue
        seen = set()
        for index, item in enumerate(items):
            where = f"{path}: {section}[{index}]"
            _check_fields(item, fields, where)
            _CHECKS[section](item, where)
            if item["id"] in seen:
                raise DatasetError(f"{where}: id {item['id']} is used twice; ids must be unique")
            seen.add(item["id"])
        if len({isinstance(identity, str) for identity in seen}) > 1:
            raise DatasetError(f"{path}: the ids of '{section}' must be all numbers or all text")
    _check_class_names(content["categories"], path)
    return content


def _check_class_names(categories: list[dict], path: str) -> None:
    """Refuse a name that two classes would have: results and weights tell classes by their names.

    The background, class 0, has a name, too.
    """
    owners = {BACKGROUND_NAME: "the background's"}
    for category in categories:
        name, identity = category["name"], category["id"]
        if name in owners:
            raise DatasetError(
                f"{path}: the name of category id {identity}, {name!r}, is also {owners[name]}: "
                "results would mix them up; rename one, or give their annotations one category"
            )
        owners[name] = f"that of category id {identity}"


def _check_fields(item: Any, fields: tuple, where: str) -> None:
    if not isinstance(item, dict):
        raise DatasetError(f"{where}: must be an object")
    missing = [field for field in fields if field not in item]
    if missing:
        raise DatasetError(f"{where}: lacks {', '.join(missing)}")
    for field in fields:
        if field.endswith("id") and not (is_finite(item[field]) or isinstance(item[field], str)):
            raise DatasetError(
                f"{where}: {field} must be a finite number or text, not {shown(item[field])}"
            )


def _check_image(image: dict, where: str) -> None:
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        raise DatasetError(f"{where}: file_name must be text")
    for side in ("width", "height"):
        size = image[side]
        if not is_finite(size) or not 1 <= size <= MAX_IMAGE_SIDE or size != int(size):
            raise DatasetError(
                f"{where}: {side} must be a whole number of pixels, at most {MAX_IMAGE_SIDE}, not "
                f"{shown(size)}"
            )


def _check_category(category: dict, where: str) -> None:
    if not isinstance(category["name"], str):
        raise DatasetError(f"{where}: name must be text, not {shown(category['name'])}")


def _check_annotation(annotation: dict, where: str) -> None:
    bbox = annotation["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise DatasetError(
            f"{where}: bbox must be four numbers x, y, width, height, not {shown(bbox)}"
        )
    for field in ("area", "iscrowd", "ignore"):
        value = annotation.get(field)
        if value is not None and not isinstance(value, (int, float)):
            raise DatasetError(f"{where}: {field} must be a number, not {shown(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that a float can hold, other than NaN and infinity."""
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer larger than every float
        return False


_CHECKS = {
    "images": _check_image,
    "categories": _check_category,
    "annotations": _check_annotation,
}
