"""Builds the native operator library from ops/ for the Caffe2 of this Python or of another.

It imports neither Caffe2 nor the rest of the package, except for `detectron_ext.environment`. So
setup.py can use it before anything is installed.
"""

from detectron_ext.native_build.cuda_check import check_cuda
from detectron_ext.native_build.library import build, build_or_warn
from detectron_ext.native_build.toolchain import BuildError, Unavailable, find_caffe2

__all__ = ["BuildError", "Unavailable", "build", "build_or_warn", "check_cuda", "find_caffe2"]
