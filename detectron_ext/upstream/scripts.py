"""Runs upstream's own tools with the adapter installed."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Sequence

from detectron_ext.engine.startup import set_threads
from detectron_ext.errors import UserError
from detectron_ext.upstream.checkout import add_to_path, require_checkout
from detectron_ext.upstream.installation import install


def run_script(script: str | Path, arguments: Sequence[str]) -> None:
    """Run a script of a checkout, ``<checkout>/tools/<name>.py``, as Python does.

    Args:
        script: path of the script.
        arguments: its command-line arguments.

    Raises:
        UserError: there is no such script, or the adapter does not know this checkout.
    """
    path = Path(script).resolve()
    if not path.is_file():
        raise UserError(f"{script} is no file: give a script in the tools folder of a checkout")
    root = add_to_path(path.parent.parent)
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    set_threads(0)
    install()
    import detectron

    if Path(detectron.__file__).resolve().parent.parent != root:
        raise UserError(f"Python finds another Detectron than {root}: {detectron.__file__}")
    runpy.run_path(str(path), run_name="__main__")


def run_tool(checkout: str, tool: str, command_line: Sequence[str]) -> None:
    """Run upstream's tool with the command line of our tool of the same name.

    Args:
        checkout: path of a checkout of Detectron.
        tool: train_net, test_net or infer_simple.
        command_line: the arguments of our tool. ``--upstream`` and its value are left out.

    Raises:
        UserError: the folder is missing or is no checkout; or an error of `run_script`.
    """
    require_checkout(checkout, "--upstream ")
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--upstream")
    _, arguments = parser.parse_known_args(list(command_line))
    run_script(Path(checkout) / "tools" / f"{tool}.py", arguments)
