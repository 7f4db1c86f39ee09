"""Where each named data set lies.

A name is looked up in the configuration's DATASETS_EXTRA, then in the YAML file that the
environment variable DETECTRON_EXT_DATASETS names, then among the built-in ones. Folders are never
built in: BCCD_ROOT and COCO_ROOT say where those two are.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Any, Mapping

from detectron_ext import environment
from detectron_ext.config.dataset_entry import DEFAULT_FORMAT, PATHS, entry_texts
from detectron_ext.config.yaml_text import parse_yaml
from detectron_ext.data.formats import FORMATS
from detectron_ext.errors import ConfigError, DatasetError, choice_error

CATALOG_VARIABLE = environment.DATASETS.name

# Detectron's names: (image folder, annotation file, what the image files' names begin with).
_COCO = {
    "coco_2014_train": ("train2014", "instances_train2014", ""),
    "coco_2014_val": ("val2014", "instances_val2014", ""),
    "coco_2014_minival": ("val2014", "instances_minival2014", ""),
    "coco_2014_valminusminival": ("val2014", "instances_valminusminival2014", ""),
    "coco_2015_test": ("test2015", "image_info_test2015", ""),
    "coco_2015_test-dev": ("test2015", "image_info_test-dev2015", ""),
    "coco_2017_train": ("train2017", "instances_train2017", ""),
    "coco_2017_val": ("val2017", "instances_val2017", ""),
    # The 2017 test images are those of 2015.
    "coco_2017_test": ("test2015", "image_info_test2017", "COCO_test2015_"),
    "coco_2017_test-dev": ("test2015", "image_info_test-dev2017", "COCO_test2015_"),
    "keypoints_coco_2014_train": ("train2014", "person_keypoints_train2014", ""),
    "keypoints_coco_2014_val": ("val2014", "person_keypoints_val2014", ""),
    "keypoints_coco_2014_minival": ("val2014", "person_keypoints_minival2014", ""),
    "keypoints_coco_2014_valminusminival": (
        "val2014",
        "person_keypoints_valminusminival2014",
        "",
    ),
    "keypoints_coco_2015_test": ("test2015", "image_info_test2015", ""),
    "keypoints_coco_2015_test-dev": ("test2015", "image_info_test-dev2015", ""),
}
_BCCD = {"bccd_train": "train", "bccd_val": "val"}
_DIGITS = {"digits_train": "train", "digits_val": "val"}


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the catalog.

    Attributes:
        name: its name in TRAIN.DATASETS or TEST.DATASETS.
        im_dir: folder of the images.
        ann_fn: annotation file, of the format's kind.
        im_prefix: put before every file name that the annotations hold.
        format: how the annotations are written, a name of `detectron_ext.data.formats.FORMATS`.
    """

    name: str
    im_dir: str
    ann_fn: str
    im_prefix: str = ""
    format: str = DEFAULT_FORMAT


def resolve(name: str, config) -> DatasetEntry:
    """Find a data set by name; the digit scenes are made when first asked for.

    Args:
        name: catalog name.
        config: its DATASETS_EXTRA maps names to {im_dir, ann_fn, im_prefix, format}, the last two
            of which may be left out, and comes first.

    Raises:
        DatasetError: the name is unknown, its entry is incomplete or has another key, or the
            environment variable with its folder is not set. That the files exist is checked when
            they are read.
    """
    extra = resolve_extra(name, config)
    if extra is not None:
        return extra
    if name in _BCCD:
        folder = _root_folder(name, environment.BCCD_ROOT, "images/ and annotations/")
        annotations = os.path.join(folder, "annotations", f"bccd_{_BCCD[name]}.json")
        return DatasetEntry(name, os.path.join(folder, "images"), annotations)
    if name in _DIGITS:
        # Making scenes needs packages that reading a data set does not.
        from detectron_ext.data import digits

        im_dir, ann_fn = digits.ensure_dataset(_DIGITS[name])
        return DatasetEntry(name, str(im_dir), str(ann_fn))
    if name in _COCO:
        return _coco_entry(name)
    raise DatasetError(_unknown_name(name, config))


def resolve_extra(name: str, config) -> DatasetEntry | None:
    """Find a data set among those that are not built in; None where it is none of them.

    Raises:
        DatasetError: its entry is incomplete or has another key.
    """
    for source, entries in _extra_sources(config):
        if name in entries:
            return _extra_entry(name, entries[name], source)
    return None


def known_names(config) -> list[str]:
    """Every name that :func:`resolve` would look up, sorted."""
    names = {*_BCCD, *_DIGITS, *_COCO}
    for _, entries in _extra_sources(config):
        names.update(entries)
    return sorted(names)


def _extra_sources(config) -> list[tuple[str, Mapping[str, Any]]]:
    sources: list[tuple[str, Mapping[str, Any]]] = [("DATASETS_EXTRA", dict(config.DATASETS_EXTRA))]
    path = environment.DATASETS.value
    if path:
        sources.append((path, _read_extra_catalog(path)))
    return sources


def _read_extra_catalog(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        reason = error.strerror
        raise DatasetError(f"{CATALOG_VARIABLE}: cannot read {path}: {reason}") from error
    try:
        # As a configuration is read: a data set may be named 2017 or on, and is found as that text.
        entries = parse_yaml(text, path)
    except ConfigError as error:
        raise DatasetError(f"{CATALOG_VARIABLE}: {error}") from error
    if not isinstance(entries, dict):
        raise DatasetError(
            f"{CATALOG_VARIABLE}: {path} must map names to {{im_dir: ..., ann_fn: ...}}"
        )
    return entries


def _extra_entry(name: str, entry: Any, source: str) -> DatasetEntry:
    try:
        fields = entry_texts(entry if isinstance(entry, Mapping) else {}, name, source)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    wrong = [key for key in PATHS if not fields.get(key)]
    if wrong:
        raise DatasetError(
            f"{source}: data set {name} needs a path for {' and '.join(wrong)}; "
            f"write {name}: {{im_dir: FOLDER, ann_fn: FILE.json}}"
        )
    im_dir, ann_fn = (os.path.expandvars(os.path.expanduser(fields[key])) for key in PATHS)
    annotation_format = fields.get("format") or DEFAULT_FORMAT
    if annotation_format not in FORMATS:
        raise DatasetError(
            str(choice_error(f"{source}: {name}.format", FORMATS, annotation_format))
        )
    return DatasetEntry(name, im_dir, ann_fn, fields.get("im_prefix", ""), annotation_format)


def _coco_entry(name: str) -> DatasetEntry:
    images, annotations, prefix = _COCO[name]
    content = "annotations/ and coco_train2014/ or train2014/, ..."
    root = _root_folder(name, environment.COCO_ROOT, content)
    # Detectron puts coco_ before the folders' own names; the archives unpack without it.
    im_dir = os.path.join(root, f"coco_{images}")
    if not os.path.isdir(im_dir):
        im_dir = os.path.join(root, images)
    return DatasetEntry(
        name, im_dir, os.path.join(root, "annotations", f"{annotations}.json"), prefix
    )


def _root_folder(name: str, variable: environment.Variable, content: str) -> str:
    folder = variable.value
    if not folder:
        raise DatasetError(
            f"data set {name}: set the environment variable {variable.name} to the folder that "
            f"holds {content}"
        )
    if not os.path.isdir(folder):
        raise DatasetError(f"data set {name}: {variable.name}={folder} is not a folder")
    return folder


def _unknown_name(name: str, config) -> str:
    names = known_names(config)
    nearest = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    return (
        f"unknown data set {name}: {hint}To add one, put DATASETS_EXTRA: {{{name}: "
        f"{{im_dir: FOLDER, ann_fn: FILE.json}}}} in the configuration (or the same map in a "
        f"YAML file named by {CATALOG_VARIABLE})"
    )
