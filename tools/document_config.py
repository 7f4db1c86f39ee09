#!/usr/bin/env python
"""Write docs/configuration.md and the typed view of a configuration from the table of keys."""

from __future__ import annotations

import sys
from pathlib import Path

from detectron_ext import command_line

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = command_line.make_parser(
        "Write docs/configuration.md and detectron_ext/config/settings.py from the table of keys "
        "in detectron_ext/config/keys and that of variables in detectron_ext/environment.py.",
        "tools/document_config.py\ntools/document_config.py --check",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with status 1 if a file is not current",
    )
    arguments = parser.parse_args()

    from detectron_ext.config.document_writer import document
    from detectron_ext.config.settings_writer import settings_source

    contents = {
        REPOSITORY / "docs" / "configuration.md": document(),
        REPOSITORY / "detectron_ext" / "config" / "settings.py": settings_source(),
    }
    stale = [path for path, text in contents.items() if not _is_current(path, text)]
    if arguments.check and stale:
        names = " and ".join(str(path.relative_to(REPOSITORY)) for path in stale)
        sys.exit(f"error: {names} not current: run tools/document_config.py")
    for path in stale:
        path.write_text(contents[path], encoding="utf-8")


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    command_line.run(main)
