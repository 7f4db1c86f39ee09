"""Where the operator libraries of the Caffe2 in this process lie."""

from __future__ import annotations

from pathlib import Path

import caffe2

from detectron_ext.native_build import Unavailable, find_caffe2
from detectron_ext.native_build.library import NAME

_FOLDER = Path(__file__).resolve().parent / "lib"
_DETECTRON_NAMES = ("libcaffe2_detectron_ops_gpu.so", "libcaffe2_detectron_ops.so")


def native_library() -> Path:
    """Return where `make ops` puts the library for this Caffe2, which need not be there."""
    try:
        return _FOLDER / find_caffe2().name / NAME
    except Unavailable:
        return _FOLDER / "source" / NAME


def detectron_library() -> Path:
    """Return Detectron's operator library, else where it would be.

    In the torch package, or beside the other libraries of a Caffe2 built from source, which lie in
    `lib` of the folder that its Python package was installed below.
    """
    try:
        folders = [find_caffe2().lib]
    except Unavailable:
        folders = [parent / "lib" for parent in Path(list(caffe2.__path__)[0]).parents]
    candidates = [folder / name for folder in folders for name in _DETECTRON_NAMES]
    return next((path for path in candidates if path.is_file()), candidates[0])
