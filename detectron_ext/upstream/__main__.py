"""Runs a script of upstream with the adapter installed.

python -m detectron_ext.upstream CHECKOUT/tools/train_net.py --cfg my.yaml
"""

from __future__ import annotations

import sys

from detectron_ext import command_line
from detectron_ext.errors import UserError
from detectron_ext.upstream.scripts import run_script


def main() -> None:
    """Run the script that the command line names, with the arguments after it."""
    if len(sys.argv) < 2:
        raise UserError("name a script: python -m detectron_ext.upstream CHECKOUT/tools/NAME.py")
    run_script(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    command_line.run(main)
