"""The repository's own configuration files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectron_ext import config as configuration
from detectron_ext.config.unused_keys import warn_of_unused_keys
from detectron_ext.config.yaml_text import parse_yaml

_FOLDER = Path(__file__).resolve().parents[2] / "configs"
# What stands in sweeps/ lists runs; it is no configuration.
_FILES = sorted(set(_FOLDER.rglob("*.yaml")) - set(_FOLDER.glob("sweeps/*.yaml")))


def _leaves(tree, prefix=()):
    """Path of every value, as a tuple of keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def _value(config, path):
    for key in path:
        config = config[key]
    return config


def _name(file):
    return str(file.relative_to(_FOLDER))


@pytest.mark.parametrize("file", _FILES, ids=_name)
def test_a_file_holds_only_what_differs_from_its_base(file):
    config = configuration.load(str(file))
    content = parse_yaml(file.read_text(), file.name)
    base_file = content.pop("_BASE_", None)
    if base_file is None:
        return
    base = configuration.load(str(file.parent / base_file))
    same = [
        path
        for path in _leaves(content)
        if np.array_equal(_value(config, path), _value(base, path))
    ]
    assert not same


@pytest.mark.parametrize("file", [f for f in _FILES if f.parent != _FOLDER], ids=_name)
def test_a_run_writes_to_a_folder_of_its_own(file):
    folder = configuration.load(str(file)).OUTPUT_DIR
    assert folder == f"output/{_name(file)[: -len('.yaml')]}"


@pytest.mark.parametrize("file", _FILES, ids=_name)
def test_a_file_sets_no_key_that_its_model_does_not_use(file, caplog):
    warn_of_unused_keys(configuration.load(str(file)))
    assert not caplog.records
