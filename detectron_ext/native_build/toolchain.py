"""Finds what a build needs on this machine: the compiler, Caffe2, its libraries and headers."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import NamedTuple

from detectron_ext import environment


class Unavailable(Exception):
    """This machine lacks something that a build needs. The message is one line that names it."""


class BuildError(Exception):
    """The compiler or the linker failed on our sources. It has printed the reason."""


def find_compiler() -> str:
    """Return the path of GCC's C++ compiler: $CXX if set, else g++ or c++ on PATH.

    Raises:
        Unavailable: there is none, or $CXX is Clang.
    """
    named = environment.CXX.value
    for name in [named] if named else ["g++", "c++"]:
        path = shutil.which(name)
        if path and not _is_clang(path):
            return path
        if path and named:
            # Clang links its own OpenMP runtime, while Caffe2 uses GCC's.
            raise Unavailable(f"{environment.CXX.name}={named} is Clang, not GCC")
    variable = environment.CXX.name
    raise Unavailable(f"{variable}={named} is not a program" if named else "no C++ compiler")


def _is_clang(compiler: str) -> bool:
    return b"clang" in subprocess.run([compiler, "--version"], stdout=PIPE).stdout


class Caffe2(NamedTuple):
    """A Caffe2 to build against.

    Attributes:
        name: the name of the folders of its builds: "torch-1.10.2", or "source".
        include: the folder of its headers.
        lib: the folder of its libraries.
    """

    name: str
    include: Path
    lib: Path


def find_caffe2(given: str | None = None) -> Caffe2:
    """Return the Caffe2 of this Python, or the given one.

    Args:
        given: a Python program whose torch package contains Caffe2, or the folder into which a
            Caffe2 built from source was installed, with include/ and lib/ in it.

    Raises:
        Unavailable: there is no Caffe2 with headers.
    """
    if given and Path(given).is_dir():
        caffe2 = Caffe2("source", Path(given) / "include", Path(given) / "lib")
    else:
        root = _torch_of(given) if given else _torch_of_this_python()
        found = re.search(r"__version__ = '([^'+]+)", (root / "version.py").read_text())
        version = found.group(1) if found else "unknown"
        caffe2 = Caffe2(f"torch-{version}", root / "include", root / "lib")
    if not (caffe2.include / "caffe2/proto/caffe2.pb.h").is_file():
        raise Unavailable(f"{caffe2.include} holds no Caffe2 headers")
    return caffe2


def _torch_of_this_python() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("no torch package in this Python")
    return Path(spec.submodule_search_locations[0])


def _torch_of(python: str) -> Path:
    script = "import importlib.util as i; print(i.find_spec('torch').submodule_search_locations[0])"
    try:
        result = subprocess.run([python, "-c", script], stdout=PIPE, stderr=DEVNULL)
    except OSError as error:
        raise Unavailable(f"CAFFE2={python} is not a program: {error.strerror}") from None
    if result.returncode:
        raise Unavailable(f"CAFFE2={python} is not a Python with a torch package")
    return Path(result.stdout.decode().strip())


def find_libraries(caffe2: Caffe2) -> list[str]:
    """Return the linker's arguments for Caffe2's libraries. Their names depend on its version.

    Raises:
        Unavailable: there are no such libraries.
    """
    for names in (["torch_cpu", "c10"], ["torch", "c10"], ["caffe2", "c10"]):
        if all((caffe2.lib / f"lib{name}.so").exists() for name in names):
            return [f"-l{name}" for name in names]
    raise Unavailable(f"{caffe2.lib} holds no Caffe2 library")


def find_openmp(caffe2: Caffe2) -> str:
    """Return the linker's argument for the OpenMP runtime that Caffe2 itself uses.

    A second runtime in the process would start as many threads again.

    Raises:
        Unavailable: the torch package has no OpenMP runtime.
    """
    bundled = sorted(caffe2.lib.glob("libgomp*.so*"))
    bundled += sorted((caffe2.lib.parent.parent / "torch.libs").glob("libgomp*.so*"))
    if bundled:
        return str(bundled[0])
    if caffe2.name == "source":
        return "-lgomp"  # the runtime of the compiler that built Caffe2
    raise Unavailable(f"the torch package of {caffe2.lib} carries no OpenMP runtime")


def find_mkl_include(caffe2: Caffe2) -> Path:
    """Return the folder of mkl_cblas.h, which a header of Caffe2 includes (package mkl-include).

    It is searched for in this Python's environment and in the environment of the torch package. The
    two differ during `pip install`, which installs what a build needs into a separate environment.

    Raises:
        Unavailable: there is no such header.
    """
    roots = [Path(sys.prefix), Path(sys.base_prefix), *list(caffe2.include.parents)[4:5]]
    for root in roots:
        if (root / "include/mkl_cblas.h").is_file():
            return root / "include"
    raise Unavailable("no mkl_cblas.h (package mkl-include)")


def generated_with_protobuf(caffe2: Caffe2) -> str:
    """Return the version of protobuf that generated Caffe2's message classes, such as "3.13.0".

    Raises:
        Unavailable: Caffe2's header does not tell it.
    """
    header = (caffe2.include / "caffe2/proto/caffe2.pb.h").read_text()
    found = re.search(r"#if (\d+) < (?:GOOGLE_)?PROTOBUF_MIN_PROTOC_VERSION", header)
    if not found:
        raise Unavailable("caffe2.pb.h does not say which protobuf generated it")
    number = int(found.group(1))
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def toolchain_id(compiler: str, caffe2: Caffe2, processor: str) -> str:
    """Return a short hash of the compiler, Caffe2 and the processor that objects are made for.

    If the hash has changed, Ninja compiles all objects again. This is the case after the tree was
    copied to another machine.
    """
    version = subprocess.run([compiler, "--version"], stdout=PIPE, check=True).stdout
    parts = [version, caffe2.name.encode(), str(caffe2.include).encode(), processor.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
