"""YAML whose aliases and merges stand for millions of values."""

from __future__ import annotations

import tracemalloc

import pytest

from detectron_ext import config as configuration
from detectron_ext.config.yaml_text import load_legacy_yaml, parse_yaml
from detectron_ext.errors import ConfigError

_LEVELS = "abcdefghijkl"


def _aliases() -> str:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    pairs = zip(_LEVELS, _LEVELS[1:])
    return "\n".join(lines + [f"{n}: &{n} [{', '.join(['*' + m] * 10)}]" for m, n in pairs])


def _merges() -> str:
    lines = ["a: &a {x: 1}"]
    pairs = zip(_LEVELS, _LEVELS[1:])
    return "\n".join(lines + [f"{n}: &{n} {{<<: [{', '.join(['*' + m] * 10)}]}}" for m, n in pairs])


@pytest.mark.parametrize("text", [_aliases(), _merges()], ids=["aliases", "merges"])
def test_bombs_are_refused_at_once(tmp_path, text):
    assert len(text) < 1000
    path = tmp_path / "c.yaml"
    path.write_text("TRAIN:\n  SCALES: 1\n" + text)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="c.yaml is not valid YAML: its aliases stand for"):
            configuration.load(str(path))
        with pytest.raises(ConfigError, match="its aliases stand for more than"):
            load_legacy_yaml(text)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_long_document_is_refused_before_it_is_parsed():
    with pytest.raises(ConfigError, match="longer than"):
        parse_yaml("a" * (5 << 20), "c.yaml")


def test_aliases_and_merges_of_usual_size_are_read():
    text = "a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}\nc: null"
    expected = {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}] * 2}, "c": None}
    assert parse_yaml(text, "c.yaml") == expected
    assert parse_yaml("", "c.yaml") is None
    with pytest.raises(ConfigError):
        parse_yaml("&a [*a]", "c.yaml")
