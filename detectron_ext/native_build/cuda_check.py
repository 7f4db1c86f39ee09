"""Compiles the CUDA sources and tries to link them. This needs nvcc, but no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from detectron_ext.native_build import library, toolchain
from detectron_ext.native_build.cuda import EXTRA_INCLUDE, MissingHeader, find_cuda, find_nvcc
from detectron_ext.native_build.cuda_headers import fetch_headers
from detectron_ext.native_build.ninja_file import LINKED_CHECK, Inputs, cuda_check_text, ninja_text
from detectron_ext.native_build.toolchain import BuildError, Unavailable

# Loading registers the operators. A name that is registered twice ends the process.
_LOAD = "import sys; from caffe2.python import dyndep; dyndep.InitOpsLibrary(sys.argv[1])"


def check_cuda(fetch: bool = False) -> str:
    """Compile the CUDA sources and return one line that says what was compiled.

    Kernels need only nvcc. The operators around them are compiled, too, if Caffe2 has CUDA and
    the headers that it includes are found. Then everything is linked to a library with CUDA code,
    and loaded. The library of the package stays as it is.

    Args:
        fetch: whether headers that this machine lacks are downloaded.

    Raises:
        BuildError: a source does not compile, or the library does not link or load.
        ValueError: as `cuda.find_nvcc`.
    """
    try:
        nvcc, compiler = find_nvcc(), toolchain.find_compiler()
        library.find_ninja()
    except Unavailable as reason:
        return f"CUDA sources not compiled: {reason}"
    operators = _operator_inputs(nvcc.version() if fetch else None)
    folder = library.BUILD / "native/cuda_check"
    host = None if operators is None else _host_objects(operators)
    text, files = cuda_check_text(library.SOURCES, folder, nvcc, compiler, operators, host)
    if not library.run_ninja(folder, text):
        raise BuildError("the CUDA sources did not compile")
    if operators is None:
        return f"CUDA kernels compiled: {files} files"
    _load(folder / LINKED_CHECK)
    return f"CUDA kernels and operators compiled, linked and loaded: {files} files"


def _operator_inputs(cuda_version: str | None) -> Inputs | None:
    """Return what operators are compiled with, or None after printing what is missing.

    Args:
        cuda_version: the version whose headers are downloaded if needed; None for no download.
    """
    try:
        if cuda_version is not None:
            _fetch_missing_headers(cuda_version)
        inputs = library.find_inputs("release")
    except Unavailable as reason:
        print(f"CUDA operators left out: {reason}", flush=True)
        return None
    return inputs if inputs.cuda is not None else None


def _fetch_missing_headers(cuda_version: str) -> None:
    """Download headers if they are all that operators cannot be compiled without."""
    try:
        find_cuda(toolchain.find_caffe2().lib)
    except MissingHeader:
        fetched = str(fetch_headers(cuda_version, library.BUILD))
        given = [path for path in [os.environ.get(EXTRA_INCLUDE)] if path]
        os.environ[EXTRA_INCLUDE] = os.pathsep.join([*given, fetched])


def _host_objects(inputs: Inputs) -> Path:
    """Bring the objects of the library without CUDA up to date, and return their folder."""
    folder = library.BUILD / "native" / inputs.caffe2.name / "release"
    without = inputs._replace(cuda=None)
    text = ninja_text(library.SOURCES, folder, library.NAME, "release", without)
    if not library.run_ninja(folder, text):
        raise BuildError("the native library did not build (release)")
    return folder


def _load(path: Path) -> None:
    """Load a library into a Caffe2 of its own.

    Raises:
        BuildError: it does not load; the message is the loader's last line.
    """
    loaded = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if loaded.returncode != 0:
        reason = (loaded.stderr.strip().splitlines() or [f"status {loaded.returncode}"])[-1]
        raise BuildError(f"the library with CUDA code does not load: {reason}")
