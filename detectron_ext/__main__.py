"""Runs a tool of the package by its name.

    detectron-ext train_net --cfg my.yaml
    python -m detectron_ext train_net --cfg my.yaml

Both run tools/train_net.py of a checkout, or its copy in an installed wheel.
"""

from __future__ import annotations

import ast
import difflib
import runpy
import sys
from pathlib import Path

from detectron_ext import command_line
from detectron_ext.errors import UserError
from detectron_ext.shipped_files import tool_paths


def main() -> None:
    """Run the tool that the first argument names, and turn errors into messages as every tool."""
    command_line.run(_run_named_tool)


def _run_named_tool() -> None:
    """Run the tool that the first argument names, with the arguments after it."""
    tools = tool_paths()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(tools))
        return
    name = arguments[0]
    if name not in tools:
        near = difflib.get_close_matches(name, tools, n=1)
        advice = f"did you mean {near[0]}?" if near else "detectron-ext --help lists them"
        raise UserError(f"no tool is called {name or repr(name)}; {advice}")
    sys.argv = [str(tools[name]), *arguments[1:]]
    runpy.run_path(str(tools[name]), run_name="__main__")


def _help(tools: dict[str, Path]) -> str:
    width = max(map(len, tools), default=0)
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in tools.items()]
    usage = "usage: detectron-ext TOOL [ARGUMENTS], and detectron-ext TOOL --help for its arguments"
    return "\n".join([usage, "", "tools:", *lines])


def _summary(path: Path) -> str:
    """Return the first line of a program's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0]


if __name__ == "__main__":
    main()
