"""Fixtures of the operators' tests. If a test fails, the seed of the random inputs is printed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from random_seed import SEED, SEED_VARIABLE

from detectron_ext.kernel_benchmark.kernels import Kernels

SOURCES = Path(__file__).resolve().parents[2] / "ops"
FLAGS = ["-std=c++14", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


@pytest.fixture(scope="session")
def kernels(tmp_path_factory) -> Kernels:
    """The C interface of the CUDA kernels, compiled for kernels/cuda_emulation.h."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("kernels") / "libkernels.so"
    sources = [str(path) for path in sorted(SOURCES.glob("kernels/*.cu"))]
    # The emulation jumps between stacks, which a fortified longjmp takes for a mistake.
    command = [compiler, *FLAGS, "-U_FORTIFY_SOURCE", "-DDETECTRON_EXT_EMULATE_CUDA", "-shared"]
    subprocess.run(
        [*command, f"-I{SOURCES}", "-x", "c++", *sources, "-o", str(library)], check=True
    )
    return Kernels(library)


def pytest_terminal_summary(terminalreporter):
    failed = terminalreporter.stats.get("failed", [])
    if any("tests/ops/" in report.nodeid for report in failed):
        terminalreporter.line(f"{SEED_VARIABLE}={SEED} repeats the random inputs of tests/ops")
