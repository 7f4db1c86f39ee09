"""Builds the native operator library from ops/*.cc against the Caffe2 of this interpreter.

Nothing here imports Caffe2 or the rest of the package, so setup.py can use it too.
"""

from detectron_ext.native_build.cuda_check import check_cuda
from detectron_ext.native_build.library import LIBRARY, build, build_or_warn
from detectron_ext.native_build.toolchain import BuildError, Unavailable

__all__ = ["LIBRARY", "BuildError", "Unavailable", "build", "build_or_warn", "check_cuda"]
