"""Loads the operator libraries, and tells which operators can run natively on the device in scope.

There are two libraries:

- Detectron's, inside the installed Caffe2: schemas, gradient makers and CUDA kernels of its 22
  operators. Most of them have no CPU implementation.
- Ours, made by `make ops`: CPU implementations of Detectron's operators, and the operators of
  Libra R-CNN.

Without our library, all operators of the table run as Python operators. The environment variable
DETECTRON_EXT_OPS=python has the same effect if our library is built.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Callable

from caffe2.proto import caffe2_pb2
from caffe2.python import core, dyndep, scope

from detectron_ext import environment
from detectron_ext.errors import ConfigError, shown
from detectron_ext.native_build.cuda import architectures_of
from detectron_ext.ops.library_paths import detectron_library, library_problem, native_library
from detectron_ext.ops.table import DETECTRON, LIBRA, OPERATORS, operators_of

ENVIRONMENT_VARIABLE = environment.OPERATORS.name
NATIVE_LIBRARY = native_library()
DETECTRON_LIBRARY = detectron_library()

# A library built with CUDA kernels exports this symbol.
CUDA_MARKER = "detectron_ext_ops_has_cuda"
_SET_THREADS = "detectron_ext_set_num_threads"

_LOG = logging.getLogger(__name__)


class _State:
    """The libraries that this process has loaded; global, as Caffe2's operator registries are."""

    attempted = False
    detectron = False
    native = False
    native_cuda = False


def load() -> None:
    """Load Detectron's operator library, then ours; later calls do nothing.

    If a library is absent or does not load, nothing is raised: one warning names the reason and
    what to do, and its operators run as Python operators.

    Raises:
        ConfigError: DETECTRON_EXT_OPS has another value than "python".
    """
    if _State.attempted:
        return
    wanted = environment.OPERATORS.value
    if wanted not in ("", "python"):
        raise ConfigError(
            f"{ENVIRONMENT_VARIABLE} must be python or must not be set, given {shown(wanted)}"
        )
    _State.attempted = True
    _State.detectron = _load_detectron_library(DETECTRON_LIBRARY)
    if not wanted:
        _State.native = _load_native_library(NATIVE_LIBRARY)
        _State.native_cuda = _State.native and _exports(NATIVE_LIBRARY, CUDA_MARKER)


def native_library_loaded() -> bool:
    """Return whether the library made by `make ops` is loaded."""
    return _State.native


def native_architectures() -> list[str]:
    """Return what our library's CUDA kernels were compiled for, such as "sm_75" and "compute_90".

    The list is empty if the library has no kernels, is not loaded, or does not tell.
    """
    return architectures_of(NATIVE_LIBRARY) if _State.native_cuda else []


def thread_setter() -> Callable[[int], None] | None:
    """Return a function that sets the number of threads of operators, None without our library.

    It sets the number for the thread that calls it, which has to be the one that runs the nets.
    """
    if not _State.native:
        return None
    setter = getattr(ctypes.CDLL(str(NATIVE_LIBRARY)), _SET_THREADS, None)
    if setter is not None:
        setter.argtypes, setter.restype = [ctypes.c_int], None
    return setter


def has_native(operator: str) -> bool:
    """Return whether an operator of the table has a native implementation on the device in scope.

    On the CPU every operator needs our library. On CUDA Detectron's operators need Detectron's
    library, and ours need our library, built with CUDA kernels.
    """
    if not is_cuda_scope():
        return _State.native
    entry = OPERATORS[operator]
    if entry.library == DETECTRON:
        return _State.detectron
    return _State.native_cuda and entry.has_cuda


def is_cuda_scope() -> bool:
    """Return whether operators added now run on CUDA."""
    device = scope.CurrentDeviceScope()
    return device is not None and device.device_type == caffe2_pb2.CUDA


def _load_detectron_library(path: Path) -> bool:
    try:
        _open(path)
    except OSError as error:
        _LOG.warning("Detectron's operator library did not load: %s", error)
        return False
    return True


def _load_native_library(path: Path) -> bool:
    """Load our library and return True; if that fails, log a warning and return False."""
    fallback = "using the slower Python operators"
    if not _State.detectron:
        # Ours implements Detectron's operators, whose schemas are in Detectron's library.
        _LOG.warning("%s needs Detectron's operator library: %s", path.name, fallback)
        return False
    problem = library_problem(path)
    if problem is not None:
        _LOG.warning("%s: %s", problem, fallback)
        return False
    try:
        _open(path)
    except OSError as error:
        _LOG.warning("%s did not load (run `make ops` again): %s: %s", path, error, fallback)
        return False
    missing = sorted(name for name in operators_of(LIBRA) if not core.IsOperator(name))
    if missing:
        _LOG.warning("%s lacks %s (run `make ops` again): %s", path, ", ".join(missing), fallback)
        return False
    return True


def _open(path: Path) -> None:
    if not path.exists():
        raise OSError(f"{path} does not exist")
    dyndep.InitOpsLibrary(str(path))


def _exports(path: Path, symbol: str) -> bool:
    """Return whether the library at `path`, which is already loaded, exports `symbol`."""
    return hasattr(ctypes.CDLL(str(path)), symbol)
