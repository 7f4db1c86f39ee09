"""Load the operator libraries, and say which operators of theirs can run on the device in scope.

Two libraries take part:

- Detectron's, inside the installed Caffe2: schemas, gradient makers and CUDA kernels of its 22
  operators, most of them without a CPU implementation;
- ours, made by `make ops`: the CPU implementations that those lack, and the operators of
  Libra R-CNN.

Without ours everything still runs, as Python operators. Setting the environment variable
DETECTRON_EXT_OPS to "python" asks for exactly that.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from caffe2.proto import caffe2_pb2
from caffe2.python import core, dyndep, scope

from detectron_ext import environment
from detectron_ext.ops.library_paths import detectron_library, native_library

ENVIRONMENT_VARIABLE = environment.OPERATORS.name
NATIVE_LIBRARY = native_library()
DETECTRON_LIBRARY = detectron_library()

DETECTRON_OPERATORS = frozenset(
    [
        "GroupSpatialSoftmax",
        "RoIPoolF",
        "SelectSmoothL1Loss",
        "SigmoidCrossEntropyLoss",
        "SigmoidFocalLoss",
        "SmoothL1Loss",
        "SoftmaxFocalLoss",
        "SpatialNarrowAs",
        "UpsampleNearest",
    ]
)
LIBRA_OPERATORS = frozenset(
    [
        "BalancedL1Loss",
        "BalancedPyramidGather",
        "BalancedPyramidScatter",
        "EmbeddedGaussianAttention",
        "NonLocalBlock",
        "SelectBalancedL1Loss",
        "WeightedSigmoidFocalLoss",
    ]
)
# Those of ours that CUDA lacks.
CPU_OPERATORS = frozenset(["NonLocalBlock"])
# A library built with CUDA kernels exports this symbol.
CUDA_MARKER = "detectron_ext_ops_has_cuda"

_LOG = logging.getLogger(__name__)


class _State:
    """What this process has loaded; operator registries are global, so this is too."""

    attempted = False
    detectron = False
    native = False
    native_cuda = False


def load() -> None:
    """Load Detectron's operator library, then ours; later calls do nothing.

    Never raises: a library that is absent or does not load is reported once, as a warning that
    names the reason and the remedy, and its operators run as Python operators.
    """
    if _State.attempted:
        return
    _State.attempted = True
    _State.detectron = _load_detectron_library(DETECTRON_LIBRARY)
    if os.environ.get(ENVIRONMENT_VARIABLE) != "python":
        _State.native = _load_native_library(NATIVE_LIBRARY)
        _State.native_cuda = _State.native and _exports(NATIVE_LIBRARY, CUDA_MARKER)


def native_library_loaded() -> bool:
    """Return whether the library made by `make ops` is loaded."""
    return _State.native


def has_native(operator: str) -> bool:
    """Return whether `operator` has a native implementation on the device in scope.

    On CUDA Detectron's own operators need its library alone; everything else needs ours, built
    with CUDA kernels if the scope is CUDA, and CPU_OPERATORS have none.
    """
    if is_cuda_scope():
        if operator in DETECTRON_OPERATORS:
            return _State.detectron
        return _State.native_cuda and operator not in CPU_OPERATORS
    return _State.native


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
    """Load our library; False, after one warning, where that fails."""
    fallback = "using the slower Python operators"
    if not _State.detectron:
        # Ours implements Detectron's operators, whose schemas are in Detectron's library.
        _LOG.warning("%s needs Detectron's operator library: %s", path.name, fallback)
        return False
    if not path.exists():
        _LOG.warning("the native operators are not built (run `make ops`): %s", fallback)
        return False
    try:
        _open(path)
    except OSError as error:
        _LOG.warning("%s did not load (run `make ops` again): %s: %s", path, error, fallback)
        return False
    missing = sorted(name for name in LIBRA_OPERATORS if not core.IsOperator(name))
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
