"""A built distribution, and an environment that has nothing else installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest

from detectron_ext.native_build import library, toolchain
from detectron_ext.native_build.protobuf import OVERRIDE

REPOSITORY = Path(__file__).resolve().parents[2]


class Distribution(NamedTuple):
    """The files that `make dist` makes."""

    source: Path
    wheel: Path


class Environment(NamedTuple):
    """A virtual environment with the wheel, and a folder outside the repository to run in."""

    folder: Path
    work: Path

    def run(self, program: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
        """Run a program of the environment; standard output and error are kept as text."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name != "PYTHONPATH" and not name.startswith("DETECTRON_EXT_")
        }
        return subprocess.run(
            [str(self.folder / "bin" / program), *map(str, arguments)],
            cwd=str(self.work),
            env={**inherited, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def distribution(tmp_path_factory) -> Distribution:
    """The distribution in $DETECTRON_EXT_TEST_DIST, else one built with what `make ops` compiled.

    The latter's wheel is for this machine alone. The sources are those of the source distribution;
    ninja finds their objects up to date, and fails if one of the files is missing.
    """
    given = os.environ.get("DETECTRON_EXT_TEST_DIST")
    folder = (REPOSITORY / given) if given else tmp_path_factory.mktemp("dist")
    if not given:
        _build(folder, tmp_path_factory.mktemp("work"))
    sources, wheels = list(folder.glob("*.tar.gz")), list(folder.glob("*.whl"))
    assert len(sources) == len(wheels) == 1, f"{folder} must hold one version"
    return Distribution(sources[0], wheels[0])


def _build(out: Path, work: Path) -> None:
    if "SANITIZE" in os.environ:
        pytest.skip("the library at hand is for a sanitizer")
    objects = Path("native") / toolchain.find_caffe2().name / "release"
    protobuf = list(library.BUILD.glob("protobuf-*"))
    if not (library.BUILD / objects / library.NAME).is_file() or not protobuf:
        pytest.skip("the native operators are not built (make ops)")
    shutil.copytree(str(library.BUILD / objects), str(work / "source/build" / objects))
    command = [sys.executable, "tools/build_dist.py", "--targets", "native"]
    result = subprocess.run(
        [*command, "--out", str(out), "--work", str(work)],
        cwd=str(REPOSITORY),
        env={OVERRIDE: str(protobuf[0]), **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="session")
def environment(distribution, tmp_path_factory) -> Environment:
    """The wheel in an environment of its own, which borrows only the wheel's requirements."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    installed = Environment(folder, tmp_path_factory.mktemp("outside"))
    wheel = str(distribution.wheel)
    result = installed.run("python", "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    assert result.returncode == 0, result.stderr
    site_packages = next(folder.glob("lib/python*/site-packages"))
    requirements = Path(numpy.__file__).resolve().parents[1]
    (site_packages / "requirements.pth").write_text(f"{requirements}\n")
    return installed
