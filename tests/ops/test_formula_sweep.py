"""The scalar C++ functions have no undefined behaviour, whatever numbers they get.

A compiler that optimises may remove the evidence, so `formula_sweep.cc` is compiled without
optimisation. GCC's -fsanitize=undefined leaves out conversions of floats that no integer holds;
float-cast-overflow finds these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("formula_sweep.cc")
SOURCES = Path(__file__).resolve().parents[2] / "ops"
FLAGS = ["-std=c++14", "-O0", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
SANITIZERS = ["-fsanitize=undefined,address,float-cast-overflow", "-fno-sanitize-recover=all"]


@pytest.mark.skipif("SANITIZE" in os.environ, reason="a sanitizer is in this process already")
def test_extreme_numbers_are_well_defined(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    program = tmp_path / "formula_sweep"
    command = [compiler, *FLAGS, *SANITIZERS, f"-I{SOURCES}", str(PROGRAM), "-o", str(program)]
    built = subprocess.run(command, stderr=subprocess.PIPE)
    if b"cannot find" in built.stderr and b"san" in built.stderr:
        pytest.skip("needs the sanitizers' libraries of g++")
    assert built.returncode == 0, built.stderr.decode()
    result = subprocess.run([str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout == b"all swept\n"
