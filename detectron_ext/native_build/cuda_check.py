"""Compiles the CUDA sources without building the library. This needs nvcc, but no GPU."""

from __future__ import annotations

from detectron_ext.native_build import library, toolchain
from detectron_ext.native_build.cuda import find_nvcc
from detectron_ext.native_build.ninja_file import Inputs, cuda_check_text
from detectron_ext.native_build.toolchain import BuildError, Unavailable


def check_cuda() -> str:
    """Compile the CUDA sources and return one line that says what was compiled.

    Kernels need only nvcc. The operators around them are compiled, too, if Caffe2 has CUDA and
    the headers that it includes are found.

    Raises:
        BuildError: a source does not compile.
        ValueError: as `cuda.find_nvcc`.
    """
    try:
        nvcc, compiler = find_nvcc(), toolchain.find_compiler()
        library.find_ninja()
    except Unavailable as reason:
        return f"CUDA sources not compiled: {reason}"
    operators = _operator_inputs()
    folder = library.BUILD / "native/cuda_check"
    text, files = cuda_check_text(library.SOURCES, folder, nvcc, compiler, operators)
    if not library.run_ninja(folder, text):
        raise BuildError("the CUDA sources did not compile")
    what = "kernels" if operators is None else "kernels and operators"
    return f"CUDA {what} compiled: {files} files"


def _operator_inputs() -> Inputs | None:
    """Return what operators are compiled with, or None after printing what is missing."""
    try:
        inputs = library.find_inputs("release")
    except Unavailable as reason:
        print(f"CUDA operators left out: {reason}", flush=True)
        return None
    return inputs if inputs.cuda is not None else None
