"""Data sets that DATASETS_EXTRA names, in upstream's catalog."""

from __future__ import annotations

from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import Patch

_CATALOG = "detectron.datasets.dataset_catalog"


def patches() -> list:
    """Patches of upstream's catalog: a data set of DATASETS_EXTRA wins over one of its own."""
    return [
        Patch(_CATALOG, "contains", ("name",), _containing),
        Patch(_CATALOG, "get_im_dir", ("name",), _field("im_dir")),
        Patch(_CATALOG, "get_ann_fn", ("name",), _field("ann_fn")),
        Patch(_CATALOG, "get_im_prefix", ("name",), _without_prefix),
    ]


def _containing(original):
    return lambda name: name in upstream_cfg().DATASETS_EXTRA or original(name)


def _field(field: str):
    def replace(original):
        def get(name):
            extra = upstream_cfg().DATASETS_EXTRA
            return extra[name][field] if name in extra else original(name)

        return get

    return replace


def _without_prefix(original):
    return lambda name: "" if name in upstream_cfg().DATASETS_EXTRA else original(name)
