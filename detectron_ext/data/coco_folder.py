"""Finds the training and the validation part of a folder with photographs in COCO format."""

from __future__ import annotations

from pathlib import Path

from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.errors import DatasetError

_LAYOUTS = (
    "annotations/*train*.json, annotations/*val*.json and images/, or "
    "train/_annotations.coco.json and valid/_annotations.coco.json with the images beside them"
)


def find_parts(folder: str) -> tuple[DatasetEntry, DatasetEntry]:
    """Find the two parts of a data set in a folder.

    Two layouts are known. In the first, ``annotations/`` holds one JSON file whose name contains
    "train" and one whose name contains "val", and ``images/`` the images of both. If ``images/``
    has folders ``train`` and ``val``, they are used. The second layout is that of Roboflow's
    exports: folders ``train`` and ``valid``, each with its images and ``_annotations.coco.json``.

    Args:
        folder: the folder.

    Returns:
        The entries ``<folder>_train`` and ``<folder>_val``. The files were not read.

    Raises:
        DatasetError: the folder does not exist or has neither layout, or several files could be
            meant.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DatasetError(f"folder of photographs {folder} not found")
    name = "".join(c if c.isalnum() else "_" for c in root.resolve().name) or "photographs"
    train, val = (
        DatasetEntry(f"{name}_{part}", *map(str, _images_and_annotations(root, part)))
        for part in ("train", "val")
    )
    return train, val


def _images_and_annotations(root: Path, part: str) -> tuple[Path, Path]:
    exported = root / ("valid" if part == "val" else part)
    if (exported / "_annotations.coco.json").is_file():
        return exported, exported / "_annotations.coco.json"
    found = sorted((root / "annotations").glob(f"*{part}*.json"))
    if not found:
        raise DatasetError(
            f"{root} has no annotation file of the {part} part; expected are {_LAYOUTS}"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DatasetError(
            f"{root / 'annotations'} has {len(found)} files of the {part} part: {names}; leave one "
            "in the folder"
        )
    images = root / "images"
    return (images / part if (images / part).is_dir() else images), found[0]
