"""Compiles and links the native operator library, redoing only what changed.

Ninja does the work from a file written here, one folder of build/native for each Caffe2 and
variant (release, address, undefined). The finished library is copied to where the package loads
it, which for each Caffe2 is another folder.
"""

from __future__ import annotations

import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from detectron_ext.native_build import toolchain
from detectron_ext.native_build.cuda import Cuda, find_cuda
from detectron_ext.native_build.ninja_file import VARIANT_FLAGS, Inputs, ninja_text
from detectron_ext.native_build.protobuf import protobuf_include
from detectron_ext.native_build.toolchain import BuildError, Unavailable

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = REPOSITORY / "ops"
BUILD = REPOSITORY / "build"
LIBRARIES = REPOSITORY / "detectron_ext/ops/lib"
NAME = "libdetectron_ext_ops.so"
JOBS = 2


def build(sanitize: str | None = None, caffe2: str | None = None) -> Path:
    """Bring the native library up to date and return its path.

    sanitize: None, "address", "undefined" or "address,undefined": compile with these sanitizers.
    caffe2: which one to build for, as in `toolchain.find_caffe2`.
    Raises Unavailable where the machine lacks something, BuildError where compiling fails.
    """
    variant = sanitize or "release"
    if variant not in VARIANT_FLAGS:
        raise ValueError(f"SANITIZE={sanitize}: give address, undefined or address,undefined")
    inputs = find_inputs(variant, caffe2)
    folder = BUILD / "native" / inputs.caffe2.name / variant
    if not run_ninja(folder, ninja_text(SOURCES, NAME, variant, inputs)):
        raise BuildError(f"the native library did not build ({variant})")
    library = LIBRARIES / inputs.caffe2.name / NAME
    _install(folder / NAME, library)
    return library


def build_or_warn(sanitize: str | None = None, caffe2: str | None = None) -> bool:
    """Build; where the machine cannot, print one line of warning. Return whether it was built.

    Raises Unavailable where a Caffe2 was asked for by name.
    """
    try:
        path = build(sanitize, caffe2)
    except Unavailable as reason:
        if caffe2:
            raise
        print(f"warning: {reason}: the Python operators will be used", file=sys.stderr)
        return False
    print(f"native operators: {path.relative_to(REPOSITORY)}")
    return True


def run_ninja(folder: Path, text: str) -> bool:
    """Bring up to date what a ninja file of this text makes, in `folder`; return whether it did."""
    command = [*find_ninja(), "-C", str(folder), "-j", str(JOBS)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "build.ninja"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return subprocess.run(command).returncode == 0


def find_ninja() -> list[str]:
    """Return the command that runs Ninja."""
    if importlib.util.find_spec("ninja"):
        return [sys.executable, "-m", "ninja"]
    path = shutil.which("ninja")
    if path:
        return [path]
    raise Unavailable("no ninja (package ninja)")


def find_inputs(variant: str, given: str | None = None) -> Inputs:
    """Return what this machine offers to a build of `variant`; raise Unavailable if too little."""
    compiler = toolchain.find_compiler()
    caffe2 = toolchain.find_caffe2(given)
    protobuf = protobuf_include(toolchain.generated_with_protobuf(caffe2), BUILD)
    return Inputs(
        compiler=compiler,
        includes=[caffe2.include, protobuf, toolchain.find_mkl_include()],
        libraries=[toolchain.find_openmp(caffe2), *toolchain.find_libraries(caffe2)],
        caffe2=caffe2,
        toolchain_id=toolchain.toolchain_id(compiler, caffe2),
        cuda=_find_cuda(variant, caffe2),
    )


def _find_cuda(variant: str, caffe2: toolchain.Caffe2) -> Cuda | None:
    """Return the CUDA toolkit, or None after a line that says why CUDA is left out."""
    if variant != "release":
        return None
    try:
        return find_cuda(caffe2.lib)
    except Unavailable as reason:
        print(f"CUDA operators left out: {reason}", flush=True)
        return None


def _install(built: Path, library: Path) -> None:
    """Copy the library into the package; a process that has the old one mapped keeps it."""
    if library.is_file() and filecmp.cmp(str(built), str(library), shallow=False):
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    fresh = library.with_suffix(f".{os.getpid()}")
    shutil.copy2(str(built), str(fresh))
    os.replace(str(fresh), str(library))
