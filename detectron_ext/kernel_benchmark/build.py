"""Compiles the kernels for the GPU at hand."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detectron_ext.errors import UserError
from detectron_ext.native_build.cuda import Nvcc, find_nvcc
from detectron_ext.native_build.library import BUILD, SOURCES
from detectron_ext.native_build.toolchain import Unavailable

_FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-fPIC"]


def nvcc_for_benchmark() -> Nvcc:
    """Return nvcc.

    Raises:
        UserError: there is none, or it does not know an architecture that is asked for.
    """
    try:
        return find_nvcc()
    except Unavailable as reason:
        raise UserError(f"{reason}: install the CUDA toolkit, or name its nvcc in NVCC") from None
    except ValueError as error:
        raise UserError(str(error)) from None


def code_for(nvcc: Nvcc, capability: tuple[int, int]) -> str:
    """Return nvcc's flags for a GPU: machine code, or PTX if nvcc is older than the GPU.

    Args:
        nvcc: the compiler.
        capability: the GPU's compute capability: major, minor.

    Raises:
        UserError: nvcc no longer compiles for the GPU.
    """
    architecture = f"{capability[0]}{capability[1]}"
    if architecture in nvcc.architectures:
        return f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    if int(architecture) < int(nvcc.architectures[0]):
        raise UserError(
            f"{nvcc.path} compiles for sm_{nvcc.architectures[0]} and newer, the GPU is "
            f"sm_{architecture}: name an older nvcc in NVCC"
        )
    older = [a for a in nvcc.architectures if int(a) < int(architecture)][-1]
    return f"-gencode=arch=compute_{older},code=compute_{older}"


def build_kernels(nvcc: Nvcc, capability: tuple[int, int]) -> Path:
    """Compile kernels/*.cu into a shared library, unless that was done before; return its path.

    Args:
        nvcc: the compiler.
        capability: the GPU's compute capability: major, minor.

    Raises:
        UserError: nvcc no longer compiles for the GPU.
        RuntimeError: nvcc failed; the message is its output.
    """
    code = code_for(nvcc, capability)
    sources = sorted((SOURCES / "kernels").glob("*.cu"))
    folder = BUILD / "kernels" / _fingerprint(nvcc, code)
    library = folder / "libkernels.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    objects = [folder / f"{source.name}.o" for source in sources]
    compiling = [nvcc.path, *_FLAGS, code, f"-I{SOURCES}", "-c"]
    commands = [[*compiling, str(s), "-o", str(o)] for s, o in zip(sources, objects)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(_run, commands))
    unfinished = folder / "unfinished.so"
    _run([nvcc.path, "-shared", *map(str, objects), "-o", str(unfinished)])
    unfinished.rename(library)
    return library


def _fingerprint(nvcc: Nvcc, code: str) -> str:
    """Return a text that changes with the sources, the compiler and the GPU."""
    version = subprocess.run([nvcc.path, "--version"], stdout=subprocess.PIPE).stdout
    digest = hashlib.sha256(version + code.encode())
    for path in sorted((SOURCES / "kernels").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise RuntimeError(result.stdout.decode(errors="replace"))
