"""The table of environment variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from squares import REPOSITORY

from detectron_ext import environment
from detectron_ext.environment import BUILDING, RUNNING, TESTING

TABLE = {variable.name: variable for variable in (*RUNNING, *BUILDING, *TESTING)}
# Variables of the system and of other programs. Our programs only pass them to child processes.
FOREIGN = {"ASAN_OPTIONS", "LD_PRELOAD", "PATH", "PYTHONPATH"}
READING = re.compile(r"""(?:environ(?:\.get\(|\.setdefault\(|\[)|getenv\()\s*["']([A-Z0-9_]+)""")
OURS = re.compile(r"""["'](DETECTRON_EXT_[A-Z_]+)["']""")


def literals(*folders):
    """The variables whose names are written out in the sources of some folders."""
    found = set()
    for folder in folders:
        for pattern in ("*.py", "*.cc", "*.h", "*.cu"):
            for path in (REPOSITORY / folder).rglob(pattern):
                if path != Path(environment.__file__):
                    text = path.read_text(encoding="utf-8")
                    found.update(READING.findall(text) + OURS.findall(text))
    return found - FOREIGN


def test_every_variable_that_tests_and_native_code_read_is_in_the_table():
    read = literals("tests", "ops")
    assert {"DETECTRON_EXT_FAST_CONV", "DETECTRON_PATH"} <= read
    assert read <= set(TABLE)


def test_the_package_and_the_tools_take_all_names_from_the_table():
    assert literals("detectron_ext", "tools") == set()


def test_each_variable_is_defined_once_with_a_description():
    assert len(TABLE) == len(RUNNING) + len(BUILDING) + len(TESTING)
    defined = {v for v in vars(environment).values() if isinstance(v, environment.Variable)}
    assert defined == set(TABLE.values())
    for variable in TABLE.values():
        assert variable.description.endswith(".")


@pytest.mark.parametrize("value", ["", "/data"])
def test_value_is_read_when_it_is_used(monkeypatch, value):
    monkeypatch.setenv("COCO_ROOT", value)
    assert environment.COCO_ROOT.value == value
    monkeypatch.delenv("COCO_ROOT")
    assert environment.COCO_ROOT.value == ""
