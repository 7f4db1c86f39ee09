#!/usr/bin/env python3
"""Build a source distribution and a wheel that runs on any x86-64 processor of the last ten years.

The wheel is built from the unpacked source distribution. This shows that nothing is missing in the
source distribution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext import environment
from detectron_ext.command_line import make_parser, run
from detectron_ext.native_build.library import BUILD, REPOSITORY
from detectron_ext.native_build.targets import (
    BUILD_VARIABLE,
    LEVELS,
    require_known,
    wanted_targets,
)

# What a hook of the build backend is run with: its name and the folder of the result.
_HOOK = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


def main() -> int:
    """Parse the command line, build, return the exit status."""
    parser = make_parser(
        "Build a source distribution, and from it a wheel that runs on any x86-64 processor of the "
        "last ten years. The wheel has a native library for each target. The package loads the "
        "best one that the processor can run. The objects are kept in build/dist, so that a second "
        "run compiles only what has changed.",
        "tools/build_dist.py\ntools/build_dist.py --targets native --out /tmp/dist",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", default="dist", help="folder for both (default: dist)"
    )
    parser.add_argument(
        "--targets",
        type=wanted_targets,
        default=list(LEVELS),
        metavar="NAMES",
        help=f"the processors to build for (default: {','.join(LEVELS)})",
    )
    parser.add_argument(
        "--work",
        metavar="FOLDER",
        default=str(BUILD / "dist"),
        help="folder to unpack and build in (default: build/dist)",
    )
    arguments = parser.parse_args()
    out, source = Path(arguments.out).resolve(), Path(arguments.work).resolve() / "source"
    try:
        for name in arguments.targets:
            require_known(name)
        _run_hook("build_sdist", out, REPOSITORY, {})
        _unpack(_newest(out, "*.tar.gz"), source)
        _run_hook("build_wheel", out, source, {BUILD_VARIABLE: " ".join(arguments.targets)})
    except OSError as error:
        place, reason = error.filename or out, error.strerror or error
        print(f"error: cannot write {place}: {reason}; choose another folder", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: {error.cmd[-2]} failed with status {error.returncode}", file=sys.stderr)
        return 2
    wheel = _newest(out, "*.whl")
    built = [name for name in zipfile.ZipFile(str(wheel)).namelist() if name.endswith(".so")]
    if len(built) != len(arguments.targets):
        wheel.unlink()
        print(f"error: {wheel.name} lacks native libraries: see the warning above", file=sys.stderr)
        return 2
    print(f"source distribution: {_newest(out, '*.tar.gz')}")
    print(f"wheel: {wheel}")
    return 0


def _run_hook(name: str, out: Path, source: Path, variables: dict[str, str]) -> None:
    """Run a hook of the build backend on the sources in a folder, with further variables set."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _HOOK, name, str(out)]
    clean = {key: value for key, value in os.environ.items() if key != environment.SANITIZE.name}
    subprocess.run(command, cwd=str(source), env={**clean, **variables}, check=True)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack a source distribution without its top folder; what was built there before stays."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name != "build":
            shutil.rmtree(str(path)) if path.is_dir() else path.unlink()
    with tarfile.open(str(archive)) as tar:
        for member in tar.getmembers():
            _, inside, member.name = member.name.partition("/")
            if inside:
                tar.extract(member, str(target))


def _newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


if __name__ == "__main__":
    run(main)
