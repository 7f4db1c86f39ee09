"""Fixtures of the operators' tests. If a test fails, the seed of the random inputs is printed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from random_seed import SEED, SEED_VARIABLE

from detectron_ext.kernel_benchmark.kernels import Kernels

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "ops"
BUILT = REPOSITORY / "build/tests"
FLAGS = ["-std=c++14", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The C interface of the CUDA kernels, compiled for kernels/cuda_emulation.h.

    It is compiled once for the same sources and compiler, also by tests that run side by side.
    """
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    sources = [str(path) for path in sorted(SOURCES.glob("kernels/*.cu"))]
    # The emulation jumps between stacks, which a fortified longjmp takes for a mistake.
    command = [compiler, *FLAGS, "-U_FORTIFY_SOURCE", "-DDETECTRON_EXT_EMULATE_CUDA", "-shared"]
    command += [f"-I{SOURCES}", "-x", "c++", *sources]
    BUILT.mkdir(parents=True, exist_ok=True)
    library = BUILT / f"libkernels_{_digest(command)}.so"
    with open(str(library) + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_file():
            half = library.with_suffix(".half")
            subprocess.run([*command, "-o", str(half)], check=True)
            half.replace(library)
    return Kernels(library)


def _digest(command: list[str]) -> str:
    """Return a name for what the command compiles, with the same compiler."""
    version = subprocess.run([command[0], "--version"], stdout=subprocess.PIPE, check=True).stdout
    digest = hashlib.sha256(repr(command).encode() + version)
    for path in sorted(SOURCES.glob("kernels/*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def pytest_terminal_summary(terminalreporter):
    failed = terminalreporter.stats.get("failed", [])
    if any("tests/ops/" in report.nodeid for report in failed):
        terminalreporter.line(f"{SEED_VARIABLE}={SEED} repeats the random inputs of tests/ops")
