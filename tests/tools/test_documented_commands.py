"""The command lines that the documents print are commands that there are."""

from __future__ import annotations

import argparse
import glob
import importlib.util
import re
import shlex

import documents
import pytest
from squares import REPOSITORY
from tool_runner import run_tool

from detectron_ext import command_line
from detectron_ext import config as configuration

_TOOL = re.compile(r"^(?:\w+=\S+ )*(\S*python) tools/(\w+)\.py\b(.*)")
_MODULE = re.compile(r"^(?:\w+=\S+ )*\S*python -m ([\w.]+)(.*)")
_PYTHONS = (".venv/bin/python", "python")


def _matching(pattern) -> list:
    lines = [(page, line) for page in documents.PAGES for line in documents.commands(page)]
    return [(page, line) for page, line in lines if pattern.match(line)]


class _Parsed(BaseException):
    """Carries a tool's arguments out of it before it acts on them."""

    def __init__(self, options: argparse.Namespace):
        super().__init__()
        self.options = options


def _raising(parse_args):
    def parse_args_only(parser, *arguments):
        options = parse_args(parser, *arguments)
        if hasattr(options, "what"):  # the subcommand of benchmark.py, which has its own parser
            return options
        raise _Parsed(options)

    return parse_args_only


@pytest.fixture
def parse(monkeypatch):
    """Return a function: tool and arguments -> what its parser makes of them."""
    for parser_class in (argparse.ArgumentParser, type(command_line.make_parser("", ""))):
        monkeypatch.setattr(parser_class, "parse_args", _raising(parser_class.parse_args))

    def parse(tool: str, arguments: list) -> argparse.Namespace:
        with pytest.raises(_Parsed) as parsed:
            assert run_tool(tool, *arguments) == "its arguments are refused"
        return parsed.value.options

    return parse


def test_commands_are_found():
    found = _matching(_TOOL)
    assert len(found) > 20
    pages = {"README.md", "docs/getting_started.md", "docs/results.md", "docs/weights.md"}
    assert pages <= {page for page, _ in found}


@pytest.mark.usefixtures("restored_registries")
@pytest.mark.parametrize("page, line", _matching(_TOOL))
def test_a_printed_command_can_be_typed(page, line, parse):
    program, tool, rest = _TOOL.match(line).groups()
    assert program in _PYTHONS
    assert (REPOSITORY / "tools" / f"{tool}.py").is_file()
    arguments = shlex.split(rest)
    options = parse(tool, arguments)
    # Overrides name keys that there are, with values of their types.
    cfg = getattr(options, "cfg_file", None)
    exists = cfg is not None and (REPOSITORY / cfg).is_file()
    configuration.load(str(REPOSITORY / cfg) if exists else None, getattr(options, "opts", []))
    for path in re.findall(r"\bconfigs/\S+\.yaml", line):
        assert glob.glob(str(REPOSITORY / path.replace("SWEEP", "*"))), path


@pytest.mark.parametrize("page, line", _matching(_MODULE))
def test_a_printed_module_can_be_run(page, line):
    module, rest = _MODULE.match(line).groups()
    assert importlib.util.find_spec(module), line
    for path in re.findall(r"\btests/\w+", rest):
        assert (REPOSITORY / path).exists(), line


@pytest.mark.parametrize("page", documents.PAGES)
def test_printed_make_targets_exist(page):
    text = "\n".join(documents.commands(page)) + documents.prose(page)
    named = re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)
    unknown = {name for name in named if name not in documents.make_targets()}
    assert not unknown, page
