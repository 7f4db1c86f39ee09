"""The command lines that the documentation prints name tools and flags that there are."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
from squares import REPOSITORY
from tool_runner import run_tool

_PAGES = ("README.md", "ops/README.md", *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md")))


def _commands(page: str) -> list:
    """Lines of the page's code blocks that run a tool, continued ones joined."""
    text = (REPOSITORY / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4,}(?:.* )?tools/\w+\.py.*$", text, re.MULTILINE)
    return [line.strip() for line in lines]


_COMMANDS = [(page, command) for page in _PAGES for command in _commands(page)]


@lru_cache(maxsize=None)
def _help(tool: str, *subcommand: str) -> str:
    outcome = run_tool(tool, *subcommand, "--help")
    assert outcome.status == 0, outcome.err
    return outcome.out


def test_commands_are_found():
    assert len(_COMMANDS) > 15
    assert {"README.md", "docs/results.md", "docs/weights.md"} <= {page for page, _ in _COMMANDS}


@pytest.mark.parametrize("page, command", _COMMANDS)
def test_a_printed_command_can_be_typed(page, command):
    program, script, *arguments = command.split()
    assert program in (".venv/bin/python", "python"), "tools are no programs of their own"
    tool = script[len("tools/") : -len(".py")]
    assert (REPOSITORY / script).is_file()
    first = [word for word in arguments[:1] if tool == "benchmark"]
    known = _help(tool, *first)
    for flag in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{flag}\b", known), f"{tool} has no {flag}"
    for path in re.findall(r"\bconfigs/\S+\.yaml", command):
        assert "SWEEP" in path or (REPOSITORY / path).is_file(), path
