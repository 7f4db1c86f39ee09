"""Finds the CUDA compiler and the headers that Caffe2's GPU classes include."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from detectron_ext import environment
from detectron_ext.native_build.toolchain import Unavailable

# What Caffe2's GPU classes include. The Python packages nvidia-cublas, nvidia-curand and
# nvidia-cudnn-cu13 contain these headers.
HEADERS = ("cublas_v2.h", "curand.h", "cudnn.h")
OLDEST_ARCHITECTURE = 60
EXTRA_INCLUDE = environment.CUDA_INCLUDE.name
ONLY_ARCHITECTURES = environment.CUDA_ARCHITECTURES.name


class MissingHeader(Unavailable):
    """A header of CUDA's libraries is not on this machine."""


class Nvcc(NamedTuple):
    """A CUDA compiler.

    Attributes:
        path: the program.
        architectures: the GPU architectures to compile for, oldest first, such as "75" and "80".
    """

    path: str
    architectures: list[str]

    def kernel_code(self) -> list[str]:
        """Return flags for machine code of every architecture, and for PTX for newer GPUs."""
        flags = [f"-gencode arch=compute_{a},code=sm_{a}" for a in self.architectures]
        return [*flags, *self.host_code()]

    def code_names(self) -> list[str]:
        """Return the names of what `kernel_code` compiles, such as "sm_75" and "compute_90"."""
        return [*(f"sm_{a}" for a in self.architectures), f"compute_{self.architectures[-1]}"]

    def version(self) -> str:
        """Return the version of CUDA, such as "13.0"; "unknown" if the compiler does not say."""
        text = subprocess.run([self.path, "--version"], stdout=subprocess.PIPE).stdout.decode()
        found = re.search(r"release (\d+\.\d+)", text)
        return found.group(1) if found else "unknown"

    def host_code(self) -> list[str]:
        """Return flags for sources without kernels: one architecture is enough for them."""
        newest = self.architectures[-1]
        return [f"-gencode arch=compute_{newest},code=compute_{newest}"]


class Cuda(NamedTuple):
    """What CUDA operators are compiled and linked with.

    Attributes:
        nvcc: the compiler.
        includes: the folders of the headers.
        runtime: path of the static CUDA runtime, a library.
    """

    nvcc: Nvcc
    includes: list[Path]
    runtime: Path


def architectures_file(library: Path) -> Path:
    """Return the file beside a library that lists what its CUDA kernels were compiled for."""
    return library.with_suffix(".cuda")


def write_architectures(library: Path, cuda: Cuda | None) -> None:
    """Write the file beside a library that lists what its CUDA kernels were compiled for.

    Args:
        library: path of the library.
        cuda: what it is compiled with; None for a library without kernels, whose file is empty.
    """
    names = cuda.nvcc.code_names() if cuda else []
    architectures_file(library).write_text(" ".join(names) + "\n")


def architectures_of(library: Path) -> list[str]:
    """Return what a library's CUDA kernels were compiled for; [] if there is no such file."""
    path = architectures_file(library)
    return path.read_text().split() if path.is_file() else []


def find_nvcc() -> Nvcc:
    """Return the CUDA compiler: $NVCC if set, else nvcc on PATH.

    Its architectures are all that it knows from sm_60 up, or those of them that the environment
    variable DETECTRON_EXT_CUDA_ARCHITECTURES lists.

    Raises:
        Unavailable: there is no compiler, or it knows no architecture from sm_60 up.
        ValueError: the environment variable lists an architecture that the compiler does not know.
    """
    path = shutil.which(environment.NVCC.value or "nvcc")
    if path is None:
        raise Unavailable("no nvcc")
    return Nvcc(path, _architectures(path))


def find_cuda(caffe2_libraries: Path) -> Cuda:
    """Return the CUDA toolkit of `find_nvcc`.

    The headers are searched for in the folders that the environment variable
    DETECTRON_EXT_CUDA_INCLUDE lists, in the toolkit and in the nvidia packages of this Python.

    Args:
        caffe2_libraries: the folder of Caffe2's libraries, which must have CUDA code.

    Raises:
        MissingHeader: a header is missing.
        Unavailable: something else is missing; the message names it.
        ValueError: as `find_nvcc`.
    """
    nvcc = find_nvcc()
    if not (caffe2_libraries / "libtorch_cuda.so").is_file():
        raise Unavailable(f"no libtorch_cuda.so in {caffe2_libraries}")
    root = _toolkit(nvcc.path)
    runtime = next((p for p in root.glob("lib*/libcudart_static.a")), None)
    if runtime is None:
        raise Unavailable(f"no libcudart_static.a under {root}")
    return Cuda(nvcc, _find_headers(root), runtime)


def _toolkit(nvcc: str) -> Path:
    output = subprocess.run(
        [nvcc, "--dryrun", "-c", "-x", "cu", os.devnull], stderr=subprocess.PIPE
    ).stderr.decode(errors="replace")
    found = re.search(r"TOP=(\S+)", output)
    if not found:
        raise Unavailable(f"{nvcc} --dryrun does not print the folder of its toolkit")
    return Path(found.group(1)).resolve()


def _find_headers(root: Path) -> list[Path]:
    folders = [Path(p) for p in os.environ.get(EXTRA_INCLUDE, "").split(os.pathsep) if p]
    folders.append(root / "include")
    packages = importlib.util.find_spec("nvidia")
    for location in (packages and packages.submodule_search_locations) or []:
        folders += sorted(Path(location).glob("*/include"))
    folders.append(Path("/usr/include"))
    found = []
    for header in HEADERS:
        folder = next((f for f in folders if (f / header).is_file()), None)
        if folder is None:
            raise MissingHeader(f"no {header} (set {EXTRA_INCLUDE} to its folder)")
        if folder not in found and folder != Path("/usr/include"):
            found.append(folder)
    return found


def _architectures(nvcc: str) -> list[str]:
    output = subprocess.run([nvcc, "--list-gpu-code"], stdout=subprocess.PIPE).stdout.decode()
    numbers = sorted({int(n) for n in re.findall(r"sm_(\d+)\b", output)})
    usable = [str(n) for n in numbers if n >= OLDEST_ARCHITECTURE]
    if not usable:
        raise Unavailable(f"{nvcc} compiles for no architecture of sm_60 or newer")
    wanted = os.environ.get(ONLY_ARCHITECTURES, "").replace(",", " ").split()
    unknown = [architecture for architecture in wanted if architecture not in usable]
    if unknown:
        raise ValueError(
            f"{ONLY_ARCHITECTURES} names {unknown[0]}; {nvcc} compiles for {' '.join(usable)}"
        )
    return [architecture for architecture in usable if not wanted or architecture in wanted]
