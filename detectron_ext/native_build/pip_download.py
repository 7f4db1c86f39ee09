"""Downloads one file of the package index with pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from detectron_ext.native_build.toolchain import Unavailable


def pip_download(requirement: str, folder: Path, pattern: str, *options: str) -> Path:
    """Download a package without its dependencies, and return its file.

    Args:
        requirement: name and version of the package, such as "grpcio-tools==1.33.2".
        folder: where the file goes.
        pattern: what its name must match, such as "*.whl".
        options: more options of ``pip download``.

    Raises:
        Unavailable: pip could not; the message has its last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    command += ["--dest", str(folder), requirement]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    files = sorted(folder.glob(pattern))
    if result.returncode or not files:
        reason = result.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["no reason"]
        raise Unavailable(f"pip could not fetch {requirement} ({reason[0].strip()})")
    return files[0]
