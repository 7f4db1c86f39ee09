"""Compiles and links the native operator library, redoing only what changed.

Ninja does the work from a file written here, one folder of build/native for each variant
(release, address, undefined). The finished library is copied to where the package loads it.
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
from detectron_ext.native_build.protobuf import protobuf_include
from detectron_ext.native_build.toolchain import BuildError, Unavailable

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = REPOSITORY / "ops"
BUILD = REPOSITORY / "build"
LIBRARY = REPOSITORY / "detectron_ext/ops/lib/libdetectron_ext_ops.so"
JOBS = 2

COMMON_FLAGS = [
    "-std=c++14",
    "-fPIC",
    "-fopenmp",
    "-march=native",
    "-fno-math-errno",  # sqrt and friends become instructions
    "-fno-trapping-math",  # branches on floats can become vector selects
    "-DNDEBUG",  # protobuf's checks need symbols that the wheel does not export
    "-D_GLIBCXX_USE_CXX11_ABI=0",
    "-Wall",
    "-Wextra",
]
VARIANT_FLAGS = {
    "release": ["-O3"],
    "address": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address"],
    # Caffe2's own classes are compiled without the type information that vptr checks need.
    "undefined": [
        "-O1",
        "-g",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
        "-fno-sanitize=vptr",
    ],
}


def build(sanitize: str | None = None) -> Path:
    """Bring the native library up to date and return its path.

    sanitize: None, "address" or "undefined": compile with that sanitizer of the compiler.
    Raises Unavailable where the machine lacks something, BuildError where compiling fails.
    """
    variant = sanitize or "release"
    if variant not in VARIANT_FLAGS:
        raise ValueError(f"SANITIZE={sanitize}: give address or undefined")
    folder = BUILD / "native" / variant
    _write_ninja_file(folder, variant)
    ninja = [*_ninja(), "-C", str(folder), "-j", str(JOBS)]
    if subprocess.run(ninja).returncode:
        raise BuildError(f"the native library did not build ({variant})")
    _install(folder / LIBRARY.name)
    return LIBRARY


def build_or_warn(sanitize: str | None = None) -> bool:
    """Build; where the machine cannot, print one line of warning. Return whether it was built."""
    try:
        path = build(sanitize)
    except Unavailable as reason:
        print(f"warning: {reason}: the Python operators will be used", file=sys.stderr)
        return False
    print(f"native operators: {path.relative_to(REPOSITORY)}")
    return True


def _ninja() -> list[str]:
    if importlib.util.find_spec("ninja"):
        return [sys.executable, "-m", "ninja"]
    path = shutil.which("ninja")
    if path:
        return [path]
    raise Unavailable("no ninja (package ninja)")


def _write_ninja_file(folder: Path, variant: str) -> None:
    compiler = toolchain.find_compiler()
    caffe2 = toolchain.find_caffe2()
    protobuf = protobuf_include(toolchain.generated_with_protobuf(caffe2), BUILD)
    includes = [caffe2 / "include", protobuf, toolchain.find_mkl_include()]
    flags = [*COMMON_FLAGS, *VARIANT_FLAGS[variant], f"-I{SOURCES}"]
    flags += [f"-isystem{path}" for path in includes]
    # Nothing reads this macro: it makes the command, and so the objects, differ by toolchain.
    flags.append(f"-DDETECTRON_EXT_TOOLCHAIN={toolchain.toolchain_id(compiler, caffe2)}")
    libraries = [str(toolchain.find_openmp(caffe2)), f"-L{caffe2 / 'lib'}", "-ltorch_cpu", "-lc10"]
    libraries.append("-Wl,-z,defs")  # a missing symbol fails here, not when loaded
    sanitizer = [flag for flag in VARIANT_FLAGS[variant] if flag.startswith("-fsanitize")]
    text = _ninja_text(compiler, flags, sanitizer + libraries)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "build.ninja"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _ninja_text(compiler: str, flags: list[str], libraries: list[str]) -> str:
    sources = sorted(SOURCES.glob("kernels/*.cc")) + sorted(SOURCES.glob("caffe2/*.cc"))
    lines = [
        "rule compile",
        f"  command = {compiler} {' '.join(flags)} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $name",
        "rule link",
        f"  command = {compiler} -shared $in {' '.join(libraries)} -o $out",
        "  description = link $out",
    ]
    objects = []
    for source in sources:
        name = source.relative_to(SOURCES)
        objects.append(f"{name.with_suffix('.o')}")
        lines += [f"build {objects[-1]}: compile {source}", f"  name = {name}"]
    lines += [f"build {LIBRARY.name}: link {' '.join(objects)}", f"default {LIBRARY.name}"]
    return "\n".join(lines) + "\n"


def _install(built: Path) -> None:
    """Copy the library into the package; a process that has the old one mapped keeps it."""
    if LIBRARY.is_file() and filecmp.cmp(str(built), str(LIBRARY), shallow=False):
        return
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    fresh = LIBRARY.with_suffix(f".{os.getpid()}")
    shutil.copy2(str(built), str(fresh))
    os.replace(str(fresh), str(LIBRARY))
