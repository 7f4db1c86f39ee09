"""Cross-validation in a sweep: the folds of a data set as annotation files in the results folder.

The folder ``<results>/<group>/<data set>_<n>folds/`` holds

- ``all.json``: the annotations of all images;
- ``fold<k>_train.json`` and ``fold<k>_test.json``: those of the images that fold k is trained and
  tested on, with the same ids of images;
- ``split.json``: which data sets were split and how, and the images of each fold. Later runs use
  this split, so images need not be compared again.
"""

from __future__ import annotations

import collections
import hashlib
import json
import logging
import os
from typing import Any, NamedTuple, Sequence

import numpy as np

from detectron_ext.config import Config
from detectron_ext.data.annotation_file import read_json
from detectron_ext.data.catalog import DatasetEntry, require_files, resolve
from detectron_ext.data.folds import split_in_folds
from detectron_ext.data.joined_annotations import joined_annotations, part_of
from detectron_ext.data.near_duplicates import near_duplicates, thumbnail
from detectron_ext.data.transforms import read_file
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.output_files import write_json

_LOG = logging.getLogger(__name__)
_SPLIT = "split.json"
_ALL = "all.json"


class Folds(NamedTuple):
    """A cross-validation.

    Attributes:
        total: number of folds.
        scored: numbers of the folds that are trained and tested, from 1.
        datasets: catalog names of the data sets to join and split; () are TRAIN.DATASETS.
        seed: seed of the split.
    """

    total: int
    scored: tuple[int, ...]
    datasets: tuple[str, ...] = ()
    seed: int = 0


class Fold(NamedTuple):
    """One fold of a cross-validation in a results folder.

    Attributes:
        folder: folder of the split, relative to the results folder.
        label: start of the names of its data sets.
        number: number of the fold, from 1.
        folds: the cross-validation.
    """

    folder: str
    label: str
    number: int
    folds: Folds

    @property
    def name(self) -> str:
        """Name of the fold in folders and data sets, such as fold2of5."""
        return f"fold{self.number}of{self.folds.total}"

    def dataset(self, part: str) -> str:
        """Return the catalog name of the images to "train" or to "test"."""
        return f"{self.label}_{self.name}_{part}"

    def overrides(self, results_dir: str) -> list[str]:
        """Return KEY, VALUE, ... that make a run train and test this fold."""
        folder = os.path.join(results_dir, self.folder)
        pairs: list[str] = []
        for part in ("train", "test"):
            entry = f"DATASETS_EXTRA.{self.dataset(part)}"
            file = os.path.join(folder, f"fold{self.number}_{part}.json")
            pairs += [f"{entry}.im_dir", folder, f"{entry}.ann_fn", file]
            pairs += [f"{part.upper()}.DATASETS", f"('{self.dataset(part)}',)"]
        return pairs

    def is_place_setting(self, key: str) -> bool:
        """Return whether a key tells only where the files of the fold are."""
        return key.startswith(
            tuple(f"DATASETS_EXTRA.{self.dataset(part)}." for part in ("train", "test"))
        )

    def source_datasets(self, config: Config) -> tuple[str, ...]:
        """Return the catalog names of the data sets that are split.

        Args:
            config: the configuration of the run without the overrides of the fold.
        """
        return self.folds.datasets or tuple(config.TRAIN.DATASETS)


def write_split(results_dir: str, fold: Fold, names: Sequence[str], config: Config) -> None:
    """Write the annotation files of all folds; a split that is there is used again.

    Args:
        results_dir: results folder of the sweep.
        fold: any fold of the cross-validation.
        names: catalog names of the data sets to split.
        config: a configuration that has the data sets.

    Raises:
        UserError: a data set cannot be read or split, or the folder has a split of other data, or
            a file cannot be written.
    """
    folder, folds = os.path.join(results_dir, fold.folder), fold.folds
    entries = [resolve(name, config) for name in names]
    for entry in entries:
        require_files(entry)
    content = joined_annotations(entries)
    made_of = {
        "datasets": list(names),
        "folds": folds.total,
        "seed": folds.seed,
        "annotations": _digest(content),
    }
    split = _read_split(folder)
    if split is None:
        split = {**made_of, **_split(content, config, folds)}
        write_json(os.path.join(folder, _SPLIT), split)
    for key, value in made_of.items():
        if split.get(key) != value:
            raise UserError(
                f"{folder} was split with other {key}: choose another results folder, or remove "
                "this one and the runs of its folds"
            )
    _warn_of_missing_classes(content, split["images"])
    _write_parts(folder, content, split["images"])


def _split(content: dict, config: Config, folds: Folds) -> dict[str, Any]:
    """Return the ids of the images of each fold, and the groups of near-duplicates."""
    images = content["images"]
    groups = near_duplicates([_thumbnail(image, config) for image in images])
    several = [group for group in groups if len(group) > 1]
    _LOG.info(
        "%d images in %d folds; %d of them are nearly the same as another (%d groups), and each "
        "group is in one fold",
        len(images), folds.total, sum(map(len, several)), len(several),
    )  # fmt: skip
    parts = split_in_folds(groups, folds.total, folds.seed)
    return {
        "near_duplicates": [_ids(images, group) for group in several],
        "images": [_ids(images, part) for part in parts],
    }


def _ids(images: list[dict], indices: Sequence[int]) -> list:
    return [images[index]["id"] for index in indices]


def _thumbnail(image: dict, config: Config) -> np.ndarray:
    """Read an image of the joined annotations as training does, and return its thumbnail."""
    size = (int(image["height"]), int(image["width"]))
    try:
        return thumbnail(read_file(image["file_name"], size, config.LIBRA.DATA.DEEP_IMAGES))
    except DatasetError as error:
        raise DatasetError(
            f"image {error}: mend the file or remove it from the annotations, so that the folds "
            "are made of images that can be tested"
        ) from error


def _write_parts(folder: str, content: dict, images: list[list]) -> None:
    every = {image["id"] for image in content["images"]}
    parts = {_ALL: every}
    for number, ids in enumerate(images, start=1):
        parts[f"fold{number}_test.json"] = set(ids)
        parts[f"fold{number}_train.json"] = every - set(ids)
    for name, chosen in parts.items():
        write_json(os.path.join(folder, name), part_of(content, chosen))


def _warn_of_missing_classes(content: dict, images: list[list]) -> None:
    shown: dict = collections.defaultdict(set)
    for annotation in content["annotations"]:
        shown[annotation["category_id"]].add(annotation["image_id"])
    for category in content["categories"]:
        lacking = [
            str(number)
            for number, ids in enumerate(images, start=1)
            if not shown[category["id"]] & set(ids)
        ]
        if lacking:
            _LOG.warning(
                "class %s is in no test image of fold %s: the AP of such a fold is a mean of fewer "
                "classes; use fewer folds or another seed",
                category["name"], ", ".join(lacking),
            )  # fmt: skip


def _digest(content: dict) -> str:
    """Return a digest of annotations that does not depend on the folder of the images."""
    images = [
        {**image, "file_name": os.path.basename(image["file_name"])} for image in content["images"]
    ]
    text = json.dumps({**content, "images": images}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_split(folder: str) -> dict | None:
    path = os.path.join(folder, _SPLIT)
    if not os.path.exists(path):
        return None
    try:
        split = read_json(path)
    except (OSError, DatasetError):
        split = None
    if not isinstance(split, dict) or not isinstance(split.get("images"), list):
        raise UserError(f"{path} is damaged: remove it to split the data sets again")
    return split


def all_images(results_dir: str, fold: Fold) -> DatasetEntry:
    """Return the data set of all images of a cross-validation."""
    folder = os.path.join(results_dir, fold.folder)
    return DatasetEntry(f"{fold.label}_{fold.folds.total}folds", folder, os.path.join(folder, _ALL))
