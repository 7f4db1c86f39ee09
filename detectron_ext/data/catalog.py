"""Where each named data set lies.

A name is looked up in the configuration's DATASETS_EXTRA, then in the YAML file that the
environment variable DETECTRON_EXT_DATASETS names, then among the built-in data sets. The
environment variables BCCD_ROOT and COCO_ROOT name the folders of the blood cells and of COCO.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from detectron_ext import environment
from detectron_ext.config.dataset_entry import DEFAULT_FORMAT, PATHS, entry_texts
from detectron_ext.config.paths import expand_path
from detectron_ext.config.yaml_text import parse_yaml
from detectron_ext.data.formats import FORMATS
from detectron_ext.errors import ConfigError, DatasetError, choice_error
from detectron_ext.input_files import read_start
from detectron_ext.limits import MAX_YAML_CHARACTERS

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

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
        im_prefix: text before every file name of the annotations.
        format: the format of the annotations, a name in `detectron_ext.data.formats.FORMATS`.
    """

    name: str
    im_dir: str
    ann_fn: str
    im_prefix: str = ""
    format: str = DEFAULT_FORMAT


def resolve(name: str, config: Settings) -> DatasetEntry:
    """Find a data set by name; the digit scenes are made when first asked for.

    Args:
        name: catalog name.
        config: a merged configuration. DATASETS_EXTRA maps names to {im_dir, ann_fn} and, if
            needed, im_prefix and format; it is searched first.

    Raises:
        DatasetError: the name is unknown, its entry is incomplete or has an unknown field, or the
            environment variable with its folder is not set. Whether the files exist is not checked
            before they are read.
    """
    extra = resolve_extra(name, config)
    if extra is not None:
        return extra
    if name in _BCCD:
        folder = _root_folder(name, environment.BCCD_ROOT, "images/ and annotations/")
        annotations = os.path.join(folder, "annotations", f"bccd_{_BCCD[name]}.json")
        return DatasetEntry(name, os.path.join(folder, "images"), annotations)
    if name in _DIGITS:
        # The packages that draw scenes are not needed to read other data sets.
        from detectron_ext.data import digits

        im_dir, ann_fn = digits.ensure_dataset(_DIGITS[name])
        return DatasetEntry(name, str(im_dir), str(ann_fn))
    if name in _COCO:
        return _coco_entry(name)
    raise DatasetError(_unknown_name(name, config))


def require_files(entry: DatasetEntry) -> None:
    """Check that the annotation file and the image folder of a data set exist.

    Raises:
        DatasetError: one of them is missing.
    """
    if not os.path.exists(entry.ann_fn):
        raise DatasetError(f"data set {entry.name}: annotation file {entry.ann_fn} not found")
    if not os.path.isdir(entry.im_dir):
        raise DatasetError(f"data set {entry.name}: image folder {entry.im_dir} not found")


def resolve_extra(name: str, config: Settings) -> DatasetEntry | None:
    """Find a data set among the user's; return None if it is not one of them.

    Raises:
        DatasetError: its entry is incomplete or has an unknown field.
    """
    for source, entries in _extra_sources(config):
        if name in entries:
            return _extra_entry(name, entries[name], source)
    return None


def known_names(config: Settings) -> list[str]:
    """Return every name that :func:`resolve` knows, sorted."""
    names = {*_BCCD, *_DIGITS, *_COCO}
    for _, entries in _extra_sources(config):
        names.update(entries)
    return sorted(names)


def _extra_sources(config: Settings) -> list[tuple[str, Mapping[str, Any]]]:
    sources: list[tuple[str, Mapping[str, Any]]] = [("DATASETS_EXTRA", dict(config.DATASETS_EXTRA))]
    path = expand_path(environment.DATASETS.value)
    if path:
        sources.append((path, _read_extra_catalog(path)))
    return sources


def _read_extra_catalog(path: str) -> dict[str, Any]:
    try:
        text = read_start(path, MAX_YAML_CHARACTERS + 1)
    except OSError as error:
        reason = error.strerror
        raise DatasetError(f"{CATALOG_VARIABLE}: cannot read {path}: {reason}") from error
    try:
        # This parser keeps names as text: a data set may be named 2017 or on.
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
    im_dir, ann_fn = (expand_path(fields[key]) for key in PATHS)
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
    # Detectron's folders are named coco_train2014 and so on. COCO's archives contain train2014.
    im_dir = os.path.join(root, f"coco_{images}")
    if not os.path.isdir(im_dir):
        im_dir = os.path.join(root, images)
    return DatasetEntry(
        name, im_dir, os.path.join(root, "annotations", f"{annotations}.json"), prefix
    )


def _root_folder(name: str, variable: environment.Variable, content: str) -> str:
    folder = expand_path(variable.value)
    if not folder:
        raise DatasetError(
            f"data set {name}: set the environment variable {variable.name} to the folder that "
            f"holds {content}"
        )
    if not os.path.isdir(folder):
        raise DatasetError(f"data set {name}: {variable.name}={folder} is not a folder")
    return folder


def _unknown_name(name: str, config: Settings) -> str:
    names = known_names(config)
    nearest = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(nearest)}?)" if nearest else ""
    return (
        f"unknown data set {name}{hint}: to add it, put DATASETS_EXTRA: {{{name}: "
        f"{{im_dir: FOLDER, ann_fn: FILE.json}}}} in the configuration (or the same map in a "
        f"YAML file named by {CATALOG_VARIABLE})"
    )
