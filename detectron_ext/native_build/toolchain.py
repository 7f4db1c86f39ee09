"""What a build needs from the machine: a compiler, Caffe2, and what tells two builds apart."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path


class Unavailable(Exception):
    """Something a build needs is not on this machine; the message is one line naming it."""


class BuildError(Exception):
    """The compiler or the linker refused our sources; it has printed why."""


def find_compiler() -> str:
    """Return GCC's C++ compiler: $CXX if set, else g++ or c++ on PATH."""
    named = os.environ.get("CXX")
    for name in [named] if named else ["g++", "c++"]:
        path = shutil.which(name)
        if path and not _is_clang(path):
            return path
        if path and named:
            # Clang's OpenMP is not the one inside Caffe2.
            raise Unavailable(f"CXX={named} is Clang, not GCC")
    raise Unavailable(f"CXX={named} is not a program" if named else "no C++ compiler")


def _is_clang(compiler: str) -> bool:
    return b"clang" in subprocess.run([compiler, "--version"], stdout=subprocess.PIPE).stdout


def find_caffe2() -> Path:
    """Return the folder of the installed torch package, which carries Caffe2, unimported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("no torch package in this Python")
    root = Path(spec.submodule_search_locations[0])
    if not (root / "include/caffe2/proto/caffe2.pb.h").is_file():
        raise Unavailable(f"the torch package in {root} carries no Caffe2 headers")
    return root


def find_openmp(caffe2: Path) -> Path:
    """Return the OpenMP runtime that Caffe2 itself uses: a second one would double the threads."""
    bundled = sorted((caffe2 / "lib").glob("libgomp*.so*"))
    bundled += sorted((caffe2.parent / "torch.libs").glob("libgomp*.so*"))
    if not bundled:
        raise Unavailable(f"the torch package in {caffe2} carries no OpenMP runtime")
    return bundled[0]


def find_mkl_include() -> Path:
    """Return the folder of mkl_cblas.h, which a header of Caffe2 includes (package mkl-include)."""
    for root in (Path(sys.prefix), Path(sys.base_prefix)):
        if (root / "include/mkl_cblas.h").is_file():
            return root / "include"
    raise Unavailable("no mkl_cblas.h (package mkl-include)")


def generated_with_protobuf(caffe2: Path) -> str:
    """Return the version of protobuf, as '3.13.0', that generated Caffe2's message classes."""
    header = (caffe2 / "include/caffe2/proto/caffe2.pb.h").read_text()
    found = re.search(r"#if (\d+) < PROTOBUF_MIN_PROTOC_VERSION", header)
    if not found:
        raise Unavailable("caffe2.pb.h does not say which protobuf generated it")
    number = int(found.group(1))
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def toolchain_id(compiler: str, caffe2: Path) -> str:
    """Return a short hash of the compiler, Caffe2 and the processor's abilities.

    Objects are compiled for this very processor; where the hash differs, as after the tree was
    copied to another machine, all of them are rebuilt.
    """
    version = subprocess.run([compiler, "--version"], stdout=subprocess.PIPE, check=True).stdout
    caffe2_version = (caffe2 / "version.py").read_bytes()
    parts = [version, caffe2_version, str(caffe2).encode(), _processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("flags"):
                    return line
    except OSError:
        pass
    return platform.processor()
