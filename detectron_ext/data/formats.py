"""Formats of annotations. Each reads a data set's file as COCO content.

Training, testing and comparing know only COCO content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict

from detectron_ext.data.annotation_file import check_annotations, read_json
from detectron_ext.errors import DatasetError
from detectron_ext.registry import Registry

if TYPE_CHECKING:
    from detectron_ext.data.catalog import DatasetEntry

AnnotationFormat = Callable[["DatasetEntry"], Dict[str, Any]]

FORMATS: Registry[AnnotationFormat] = Registry("a data set's format", "a function", callable)
"""Annotation formats by the names that a data set's ``format`` takes; without one it is coco.

An entry is a function (entry) -> content. ``entry.ann_fn`` is the data set's annotation file, or
whatever path the format needs, and ``entry.im_dir`` its image folder. The content is a new dict at
each call:

- images: list of {id, file_name (relative to im_dir), width, height (pixels)};
- categories: list of {id, name}, in the order of the class numbers 1, 2, ...;
- annotations: list of {id, image_id, category_id, bbox: [x, y, width, height] in pixels, x and y
  counted from 0}. Each may have area (square pixels) and iscrowd (0 or 1), too. Without this
  list the data set can be tested, but not scored.

Ids are unique in their list, and the same at each call. If a file is wrong, raise DatasetError with
a message of one line that names the file. An OSError is turned into such an error.
"""


@FORMATS.register("coco")
def _read_coco(entry: DatasetEntry) -> dict[str, Any]:
    """A COCO JSON file."""
    return read_json(entry.ann_fn)


def read_annotations(entry: DatasetEntry) -> dict[str, Any]:
    """Read a data set's annotations as COCO content, and check its structure.

    Args:
        entry: the data set; its ``format`` is one of FORMATS.

    Returns:
        The content, as FORMATS describes it.

    Raises:
        ConfigError: there is no such format.
        DatasetError: the file cannot be read, or its content is wrong: see `check_annotations`.
    """
    read = FORMATS.choose(entry.format)
    try:
        content = read(entry)
    except OSError as error:
        path = error.filename or entry.ann_fn
        raise DatasetError(
            f"cannot read annotation file {path}: {error.strerror or error}"
        ) from error
    return check_annotations(content, entry.ann_fn)
