"""docs/reliability.md names a test for each promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "reliability.md"
_ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)
_NAMED = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)`")


def _rows() -> list:
    """Return (promise, [(file, name of a test), ...]) of each row of the page's tables."""
    rows = [match.groups() for match in _ROW.finditer(PAGE.read_text(encoding="utf-8"))]
    return [
        (promise, _NAMED.findall(tests))
        for promise, tests in rows
        if promise != "promise" and set(promise) != {"-"}
    ]


@pytest.mark.parametrize("promise, tests", _rows(), ids=[row[0][:40] for row in _rows()])
def test_each_promise_names_tests_that_exist(promise, tests):
    assert tests, f"no test holds: {promise}"
    for file, name in tests:
        tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{file} has no {name}"


def test_the_page_has_promises():
    assert len(_rows()) >= 5
