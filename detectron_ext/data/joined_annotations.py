"""Joins the annotations of several data sets in COCO content with new, unique ids."""

from __future__ import annotations

import logging
import os
from typing import Any, Sequence

from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data.formats import read_annotations
from detectron_ext.data.ground_truth import DROPPED, remove_unusable
from detectron_ext.errors import DatasetError

_LOG = logging.getLogger(__name__)
_KEPT = ("bbox", "area", "iscrowd", "ignore")


def joined_annotations(entries: Sequence[DatasetEntry]) -> dict[str, Any]:
    """Return COCO content with the images of all data sets, in their order.

    The ids of images and annotations count from 1. The names of files are absolute paths. Classes
    have the numbers 1, 2, ... in the order of the first data set. Outlines and keypoints are left
    out.

    Args:
        entries: one data set or more.

    Raises:
        DatasetError: a data set cannot be read, has no annotations or other classes than the first,
            or an image is in two of them.
    """
    joined: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    names: list[str] = []
    owners: dict[str, str] = {}
    for entry in entries:
        content = read_annotations(entry)
        if "annotations" not in content:
            raise DatasetError(f"{entry.ann_fn}: has no 'annotations' to join")
        own = [category["name"] for category in content["categories"]]
        names = names or own
        if own != names:
            raise DatasetError(
                f"data sets {entries[0].name} and {entry.name} cannot be joined: their classes are "
                f"{', '.join(names)} and {', '.join(own)}"
            )
        summary = remove_unusable(content).summary()
        if summary:
            _LOG.warning("%s: %s", entry.name, summary)
        _append(joined, content, entry, owners)
    joined["categories"] = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    return joined


def _append(
    joined: dict[str, list], content: dict, entry: DatasetEntry, owners: dict[str, str]
) -> None:
    """Append a data set; ``owners`` has the data set of each image so far."""
    numbers = {category["id"]: k for k, category in enumerate(content["categories"], start=1)}
    image_ids = {}
    for image in sorted(content["images"], key=lambda image: image["id"]):
        path = os.path.abspath(os.path.join(entry.im_dir, entry.im_prefix + image["file_name"]))
        if path in owners:
            raise DatasetError(
                f"image {path} is in {owners[path]} and in {entry.name}, so its objects would be "
                "joined twice: name data sets without common images"
            )
        owners[path] = entry.name
        image_ids[image["id"]] = len(joined["images"]) + 1
        kept = {field: image[field] for field in ("width", "height", DROPPED) if field in image}
        joined["images"].append({"id": image_ids[image["id"]], "file_name": path, **kept})
    for annotation in content["annotations"]:
        kept = {field: annotation[field] for field in _KEPT if field in annotation}
        joined["annotations"].append(
            {
                "id": len(joined["annotations"]) + 1,
                "image_id": image_ids[annotation["image_id"]],
                "category_id": numbers[annotation["category_id"]],
                **kept,
            }
        )


def part_of(content: dict[str, Any], image_ids: set) -> dict[str, Any]:
    """Return COCO content with some of its images and their annotations."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in image_ids],
    }
