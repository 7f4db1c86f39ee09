#!/usr/bin/env python3
"""Format the C++ and CUDA sources of ops/ and tests/ops/ with clang-format."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron_ext.command_line import make_parser, run

REPOSITORY = Path(__file__).resolve().parent.parent
VERSION = 17  # requirements.txt pins a release of it
SUFFIXES = {".h", ".cc", ".cu"}


class Unusable(Exception):
    """There is no clang-format to use; the message is one line."""


def find_clang_format() -> str:
    """Return the path of clang-format; raise Unusable if it is missing or of another version."""
    beside = str(Path(sys.executable).parent)
    path = shutil.which("clang-format", path=beside) or shutil.which("clang-format")
    if path is None:
        raise Unusable(f"no clang-format: pip install 'clang-format=={VERSION}.*'")
    said = subprocess.run([path, "--version"], stdout=subprocess.PIPE).stdout.decode()
    found = re.search(r"version (\d+)", said)
    if found is None or int(found.group(1)) != VERSION:
        got = found.group(1) if found else "unknown"
        raise Unusable(f"{path} has version {got}: pip install 'clang-format=={VERSION}.*'")
    return path


def misformatted(clang_format: str, sources: list[Path]) -> list[Path]:
    """Return the sources that clang-format would change."""
    return [
        source
        for source in sources
        if subprocess.run([clang_format, str(source)], stdout=subprocess.PIPE, check=True).stdout
        != source.read_bytes()
    ]


def main() -> int:
    """Format or check all sources; return the exit status."""
    parser = make_parser(
        "Format the C++ and CUDA sources of ops/ and tests/ops/ as .clang-format says. The tool "
        "uses the clang-format beside this Python (package clang-format), or the one on PATH. "
        f"It must be version {VERSION}, because other versions format some lines differently.",
        "tools/format_ops.py\ntools/format_ops.py --check",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="change nothing; name the files that differ and exit with status 1",
    )
    arguments = parser.parse_args()
    folders = (REPOSITORY / "ops", REPOSITORY / "tests/ops")
    sources = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix in SUFFIXES)
    try:
        clang_format = find_clang_format()
    except Unusable as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    different = misformatted(clang_format, sources)
    for source in different:
        verb = "not formatted" if arguments.check else "formatted"
        print(f"{verb}: {source.relative_to(REPOSITORY)}")
    if not arguments.check and different:
        subprocess.run([clang_format, "-i", *map(str, different)], check=True)
    if arguments.check and different:
        print("error: run tools/format_ops.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run(main)
