"""The table of environment variables."""

from __future__ import annotations

import re

import pytest
from squares import REPOSITORY

from detectron_ext import environment
from detectron_ext.environment import BUILDING, RUNNING, TESTING

TABLE = {variable.name: variable for variable in (*RUNNING, *BUILDING, *TESTING)}
# Variables of the system and of other programs, which ours only hand on or set for a child.
FOREIGN = {"ASAN_OPTIONS", "LD_PRELOAD", "PATH", "PYTHONPATH"}
READING = re.compile(r"""(?:environ(?:\.get\(|\.setdefault\(|\[)|getenv\()\s*["']([A-Z0-9_]+)""")
OURS = re.compile(r"""["'](DETECTRON_EXT_[A-Z_]+)["']""")


def sources():
    folders = ("detectron_ext", "tools", "tests", "ops")
    for folder in folders:
        for pattern in ("*.py", "*.cc", "*.h", "*.cu"):
            yield from (REPOSITORY / folder).rglob(pattern)


def test_every_variable_that_is_read_is_in_the_table():
    read = set()
    for path in sources():
        text = path.read_text(encoding="utf-8")
        read.update(READING.findall(text))
        read.update(OURS.findall(text))
    assert {"CXX", "DETECTRON_EXT_FAST_CONV", "DETECTRON_PATH"} <= read
    assert read - FOREIGN <= set(TABLE)


def test_each_variable_stands_once_and_is_described():
    assert len(TABLE) == len(RUNNING) + len(BUILDING) + len(TESTING)
    defined = {v for v in vars(environment).values() if isinstance(v, environment.Variable)}
    assert defined == set(TABLE.values())
    for variable in TABLE.values():
        assert variable.description.endswith(".")


@pytest.mark.parametrize("value", ["", "/data"])
def test_value(monkeypatch, value):
    monkeypatch.setenv("COCO_ROOT", value)
    assert environment.COCO_ROOT.value == value
    monkeypatch.delenv("COCO_ROOT")
    assert environment.COCO_ROOT.value == ""
