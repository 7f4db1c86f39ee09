#!/usr/bin/env python
"""Copy the configurations that come with the package to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from detectron_ext import command_line
from detectron_ext.errors import ConfigError
from detectron_ext.shipped_files import CONFIGS


def main() -> None:
    parser = command_line.make_parser(
        "Copy the configurations that come with the package to FOLDER/configs, so that the "
        "documented commands find them there and you can change them.",
        "tools/copy_configs.py .",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder to copy to; it is made if needed")
    target = Path(parser.parse_args().folder) / "configs"
    if target.exists():
        raise ConfigError(f"{target} exists: move it away or name another folder")
    try:
        shutil.copytree(str(CONFIGS), str(target))
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}") from None
    print(f"configurations: {target}")


if __name__ == "__main__":
    command_line.run(main)
