"""Finds the operator libraries of the Caffe2 in this process.

One Caffe2 can have several builds of our library: the one that `make ops` compiles for the machine
at hand, and those for levels of x86-64 that a distributed wheel contains
(`detectron_ext.native_build.targets`). The rule that chooses among them:

1. DETECTRON_EXT_TARGET, if set, names the build: native, x86-64-v4, x86-64-v3 or x86-64-v2.
2. Otherwise the native build is taken if this processor can run it,
3. else the most capable level that is there and that this processor can run.

Builds for different processors may differ in the last bits of their results, because they add in
different orders and because only some fuse multiplications with additions.
"""

from __future__ import annotations

import os
from pathlib import Path

import caffe2

from detectron_ext import environment
from detectron_ext.errors import choice_error
from detectron_ext.native_build import Unavailable, find_caffe2
from detectron_ext.native_build.library import NAME
from detectron_ext.native_build.targets import LEVELS, NATIVE, lacking_flags, library_path

TARGET_VARIABLE = environment.TARGET.name
_FOLDER = Path(__file__).resolve().parent / "lib"
_DETECTRON_NAMES = ("libcaffe2_detectron_ops_gpu.so", "libcaffe2_detectron_ops.so")


def native_library() -> Path:
    """Return the path of our library for this Caffe2 and this processor.

    The file need not be there, and where no build suits the processor, `library_problem` tells so.
    Raises ConfigError where DETECTRON_EXT_TARGET names no target.
    """
    forced = os.environ.get(TARGET_VARIABLE)
    targets = [NATIVE, *LEVELS]
    if forced and forced not in targets:
        raise choice_error(TARGET_VARIABLE, targets, forced)
    try:
        folder = _FOLDER / find_caffe2().name
    except Unavailable:
        folder = _FOLDER / "source"
    paths = [library_path(folder, name, NAME) for name in ([forced] if forced else targets)]
    present = [path for path in paths if path.is_file()]
    usable = [path for path in present if not lacking_flags(path)]
    return next(iter([*usable, *present, *paths]))


def library_problem(path: Path) -> str | None:
    """Return why our library at `path` must not be loaded, or None where it can be.

    A library compiled for another processor would end the process with an illegal instruction.
    """
    forced = os.environ.get(TARGET_VARIABLE)
    remedy = f"unset {TARGET_VARIABLE}" if forced else "run `make ops`"
    if not path.exists():
        target = f" for {TARGET_VARIABLE}={forced}" if forced else ""
        return f"the native operators are not built{target} ({remedy})"
    lacking = lacking_flags(path)
    if lacking:
        return f"{path} needs a processor with {', '.join(lacking)} ({remedy})"
    return None


def detectron_library() -> Path:
    """Return the path of Detectron's operator library, or the path where it was expected.

    It lies in the torch package, or beside the other libraries of a Caffe2 built from source: in
    `lib` of the folder that Caffe2's Python package is installed below.
    """
    try:
        folders = [find_caffe2().lib]
    except Unavailable:
        folders = [parent / "lib" for parent in Path(list(caffe2.__path__)[0]).parents]
    candidates = [folder / name for folder in folders for name in _DETECTRON_NAMES]
    return next((path for path in candidates if path.is_file()), candidates[0])
