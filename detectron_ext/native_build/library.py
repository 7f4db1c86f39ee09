"""Compiles and links the native operator library. Only what changed is compiled again.

Ninja runs the compiler. This module writes Ninja's file, into build/native/<Caffe2>/<kind>/. For
the processor of this machine, the kind is "release" or the sanitizers' names. Otherwise it is a
level of x86-64, such as "x86-64-v3". The finished library is copied to
detectron_ext/ops/lib/<Caffe2>/, or to the level's folder in it. The package loads it from there.
"""

from __future__ import annotations

import filecmp
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

from detectron_ext.native_build import toolchain
from detectron_ext.native_build.cuda import Cuda, find_cuda, write_architectures
from detectron_ext.native_build.ninja_file import VARIANT_FLAGS, Inputs, ninja_text
from detectron_ext.native_build.protobuf import protobuf_include
from detectron_ext.native_build.targets import (
    BUILD_VARIABLE,
    NATIVE,
    find_target,
    library_path,
    processor_flags,
    require_known,
    wanted_targets,
    write_needed_flags,
)
from detectron_ext.native_build.toolchain import BuildError, Unavailable

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = REPOSITORY / "ops"
BUILD = REPOSITORY / "build"
LIBRARIES = REPOSITORY / "detectron_ext/ops/lib"
NAME = "libdetectron_ext_ops.so"
JOBS = 2


def build(sanitize: str | None = None, caffe2: str | None = None, target: str = NATIVE) -> Path:
    """Bring the native library up to date and return its path.

    Args:
        sanitize: "address", "undefined", "address,undefined" or "thread" to compile with these
            sanitizers, "fuzz" for the third of them and the coverage of a fuzzer; None for no
            sanitizer.
        caffe2: the Caffe2 to build for, as in `toolchain.find_caffe2`.
        target: the processors to build for, as in `targets.find_target`.

    Returns:
        The path that the package loads the library from.

    Raises:
        Unavailable: this machine lacks something; the message names it.
        BuildError: compiling or linking failed.
        ValueError: the sanitizer, the target or a CUDA architecture is unknown, or a sanitizer is
            combined with another target than "native".
    """
    require_known(target)
    variant = sanitize or "release"
    if variant not in VARIANT_FLAGS:
        known = ", ".join(sorted(set(VARIANT_FLAGS) - {"release"}))
        raise ValueError(f"SANITIZE={sanitize}: give one of {known}")
    if sanitize and target != NATIVE:
        raise ValueError(f"SANITIZE={sanitize} builds for this machine only, not for {target}")
    inputs = find_inputs(variant, caffe2, target)
    kind = variant if target == NATIVE else target
    folder = BUILD / "native" / inputs.caffe2.name / kind
    if not run_ninja(folder, ninja_text(SOURCES, folder, NAME, variant, inputs)):
        raise BuildError(f"the native library did not build ({kind})")
    library = library_path(LIBRARIES / inputs.caffe2.name, target, NAME)
    library.parent.mkdir(parents=True, exist_ok=True)
    write_needed_flags(library, inputs.target)
    write_architectures(library, inputs.cuda)
    _install(folder / NAME, library)
    return library


def build_or_warn(
    sanitize: str | None = None,
    caffe2: str | None = None,
    targets: Sequence[str] | None = None,
) -> list[Path]:
    """Build a library for each target and return their paths.

    If this machine cannot build, one line of warning is printed and the list is empty.

    Args:
        sanitize: as in `build`.
        caffe2: as in `build`.
        targets: names of targets; None for `targets.wanted_targets()`.

    Raises:
        Unavailable: this machine lacks something, and `caffe2` is given.
        BuildError: as `build`.
        ValueError: as `build`.
    """
    wanted = list(targets or wanted_targets())
    for name in wanted:  # all names before the first build
        require_known(name, "" if targets else f"{BUILD_VARIABLE}: ")
    libraries = []
    for target in wanted:
        try:
            path = build(sanitize, caffe2, target)
        except Unavailable as reason:
            if caffe2:
                raise
            print(f"warning: {reason}: the Python operators will be used", file=sys.stderr)
            return []
        print(f"native operators: {path.relative_to(REPOSITORY)}", flush=True)
        libraries.append(path)
    return libraries


def run_ninja(folder: Path, text: str) -> bool:
    """Write a ninja file of this text into `folder`, run it, and return whether it succeeded."""
    command = [*find_ninja(), "-C", str(folder), "-j", str(JOBS)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "build.ninja"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return subprocess.run(command).returncode == 0


def find_ninja() -> list[str]:
    """Return the command that runs Ninja; raise Unavailable if there is none."""
    if importlib.util.find_spec("ninja"):
        return [sys.executable, "-m", "ninja"]
    path = shutil.which("ninja")
    if path:
        return [path]
    raise Unavailable("no ninja (package ninja)")


def find_inputs(variant: str, given: str | None = None, target: str = NATIVE) -> Inputs:
    """Return what a build takes from this machine.

    Args:
        variant: a key of VARIANT_FLAGS.
        given: the Caffe2 to build for, as in `toolchain.find_caffe2`.
        target: the processors to build for, as in `targets.find_target`.

    Raises:
        Unavailable: something is missing; the message names it.
        ValueError: the target or a CUDA architecture is unknown.
    """
    compiler = toolchain.find_compiler()
    caffe2 = toolchain.find_caffe2(given)
    found_target = find_target(target, compiler)
    mkl = toolchain.find_mkl_include(caffe2)
    libraries = [toolchain.find_openmp(caffe2), *toolchain.find_libraries(caffe2)]
    cuda = _find_cuda(variant, caffe2)
    # Last, because it may download: nothing is fetched for a build that something else prevents.
    protobuf = protobuf_include(toolchain.generated_with_protobuf(caffe2), BUILD)
    return Inputs(
        compiler=compiler,
        includes=[caffe2.include, protobuf, mkl],
        libraries=libraries,
        caffe2=caffe2,
        target=found_target,
        toolchain_id=toolchain.toolchain_id(compiler, caffe2, _processor(target)),
        cuda=cuda,
    )


def _processor(target: str) -> str:
    """Return a text that names the processor. Objects of another processor must not be used."""
    if target != NATIVE:
        return target
    return " ".join(sorted(processor_flags() or [platform.processor()]))


def _find_cuda(variant: str, caffe2: toolchain.Caffe2) -> Cuda | None:
    """Return the CUDA toolkit; if something is missing, print one line with it and return None."""
    if variant != "release":
        return None
    try:
        return find_cuda(caffe2.lib)
    except Unavailable as reason:
        print(f"CUDA operators left out: {reason}", flush=True)
        return None


def _install(built: Path, library: Path) -> None:
    """Copy the library into the package. A process that has the old one loaded keeps that."""
    if library.is_file() and filecmp.cmp(str(built), str(library), shallow=False):
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    fresh = library.with_suffix(f".{os.getpid()}")
    shutil.copy2(str(built), str(fresh))
    os.replace(str(fresh), str(library))
