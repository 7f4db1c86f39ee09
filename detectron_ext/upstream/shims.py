"""Lets Caffe2 and upstream work with newer libraries, and reads files safely.

- numpy: names that newer versions removed are added again if they are missing: ``asscalar``, which
  Caffe2 uses, and the old names of Python's types, which older checkouts use.
- PyYAML: newer versions of ``yaml.load`` need a loader. The one used here builds no objects except
  upstream's AttrDict. It keeps keys as they are written: plain PyYAML reads the key ``ON`` of LIBRA
  as the bool True.
- Pickles: weights, proposals and detections are read without running code from the pickle.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import yaml

from detectron_ext.array_pickle import read_pickle
from detectron_ext.config.yaml_text import PlainLoader, parse_yaml, read_numbers
from detectron_ext.errors import WeightsError
from detectron_ext.upstream.patches import ANY, Patch, constant

_NUMPY_NAMES = {
    "asscalar": lambda array: array.item(),
    "bool": bool,
    "float": float,
    "int": int,
    "object": object,
}
_IMMUTABLE = "__immutable__"


def patches() -> list[Patch]:
    """Return the patches that the installed libraries need."""
    found = [
        Patch("detectron.utils.io", "load_object", ("file_name",), constant(load_object)),
        Patch("detectron.utils.env", "yaml_load", ANY, constant(load_yaml)),
        Patch("detectron.utils.env", "yaml_dump", ANY, constant(dump_yaml)),
    ]
    with warnings.catch_warnings():
        # numpy 1.20 to 1.23 has the old names of types, and warns when one is used.
        warnings.simplefilter("ignore")
        missing = [name for name in _NUMPY_NAMES if not hasattr(np, name)]
    found += [Patch("numpy", name, None, constant(_NUMPY_NAMES[name])) for name in missing]
    return found


def load_object(file_name: str) -> Any:
    """Read a pickle of arrays and plain containers, also one that Python 2 wrote.

    Raises:
        WeightsError: the file is missing, is truncated or contains anything else; in one line.
    """
    return read_pickle(file_name, "data", WeightsError)


def load_yaml(text: Any) -> Any:
    """Read YAML as upstream does: maps become dicts, and a dumped AttrDict becomes an AttrDict.

    Raises:
        ConfigError: the text is not YAML, or contains an object of another type.
    """
    return parse_yaml(text, "the configuration", UpstreamLoader)


def dump_yaml(data: Any, stream: Any = None, **options: Any) -> Any:
    """Write YAML. The stream may be a file that was opened for bytes."""
    if stream is not None:
        options.setdefault("encoding", "utf-8")
    return yaml.dump(data, stream, **options)


class UpstreamLoader(PlainLoader):
    """Builds the AttrDicts that are marked in the text, and keeps the types of numpy's scalars."""


def _construct_attr_dict(loader: PlainLoader, suffix: str, node: Any) -> dict:
    from detectron.utils.collections import AttrDict

    if suffix.rpartition(".")[2] != "AttrDict":
        raise yaml.constructor.ConstructorError(
            None, None, f"an object of type {suffix} is not read from a file", node.start_mark
        )
    parts = loader.construct_mapping(node, deep=True)
    result = AttrDict(parts.get("dictitems", {}))
    result.__dict__[AttrDict.IMMUTABLE] = bool(parts.get("state", {}).get(_IMMUTABLE, False))
    return result


def _construct_numpy_scalar(loader: PlainLoader, node: Any) -> Any:
    dtype, raw = loader.construct_sequence(node, deep=True)
    return read_numbers(dtype, raw)[0]


def _register() -> None:
    python = "tag:yaml.org,2002:python/object"
    for form in (":", "/new:"):
        UpstreamLoader.add_multi_constructor(python + form, _construct_attr_dict)
    for core in ("numpy.core", "numpy._core"):
        scalar = f"{python}/apply:{core}.multiarray.scalar"
        UpstreamLoader.add_constructor(scalar, _construct_numpy_scalar)


_register()
