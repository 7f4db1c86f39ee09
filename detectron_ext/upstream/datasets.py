"""Adds the data sets of DATASETS_EXTRA to upstream's catalog, and outlines to annotations.

Upstream's loader needs a ``segmentation`` in every annotation, whatever is trained. Annotations
without one get the outline of their box.
"""

from __future__ import annotations

from typing import Any, Callable

from detectron_ext.config.dataset_entry import DEFAULT_FORMAT
from detectron_ext.data.catalog import DatasetEntry, resolve_extra
from detectron_ext.errors import DatasetError
from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch

_CATALOG = "detectron.datasets.dataset_catalog"


def patches() -> list[Patch]:
    """Return the patches of upstream's catalog and of its data sets.

    A data set of DATASETS_EXTRA has precedence over one of upstream's catalog with the same name.
    It is scored like COCO.
    """
    return [
        Patch(_CATALOG, "contains", ("name",), _containing),
        Patch(_CATALOG, "get_im_dir", ("name",), _field("im_dir")),
        Patch(_CATALOG, "get_ann_fn", ("name",), _annotation_file),
        Patch(_CATALOG, "get_im_prefix", ("name",), _field("im_prefix")),
        Patch(
            "detectron.datasets.json_dataset", "JsonDataset.__init__", ("self", "name"), _opening
        ),
        Patch(
            "detectron.datasets.task_evaluation",
            "_use_json_dataset_evaluator",
            ("dataset",),
            _scoring_as_coco,
        ),
    ]


def _containing(original: Callable) -> Callable:
    return lambda name: _entry(name) is not None or original(name)


def _field(field: str) -> Callable[[Callable], Callable]:
    def replace(original: Callable) -> Callable:
        def get(name):
            entry = _entry(name)
            return original(name) if entry is None else getattr(entry, field)

        return get

    return replace


def _annotation_file(original: Callable) -> Callable:
    def get(name):
        entry = _entry(name)
        if entry is not None and entry.format != DEFAULT_FORMAT:
            raise DatasetError(
                f"data set {name} has the format {entry.format}, and upstream Detectron reads "
                f"{DEFAULT_FORMAT} only: convert the file, or run without --upstream"
            )
        return original(name) if entry is None else entry.ann_fn

    return get


def _entry(name: str) -> DatasetEntry | None:
    return resolve_extra(name, upstream_cfg())


def _opening(original: Callable) -> Callable:
    def open_dataset(self: Any, name: str) -> None:
        original(self, name)
        for annotation in self.COCO.dataset.get("annotations", ()):
            if "segmentation" not in annotation:
                annotation["segmentation"] = [_outline(*annotation["bbox"])]

    return open_dataset


def _scoring_as_coco(original: Callable) -> Callable:
    return lambda dataset: _entry(dataset.name) is not None or original(dataset)


def _outline(x: float, y: float, width: float, height: float) -> list[float]:
    """Return the corners of a box as a polygon in COCO's form."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]
