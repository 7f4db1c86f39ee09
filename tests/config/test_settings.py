"""The typed view of a configuration, as mypy sees it, and the tool that writes it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from squares import REPOSITORY

_PROGRAM = """\
from typing import Any

from detectron_ext.config import Config, load
from detectron_ext.config.settings import LibraSamplerSettings, Settings


class Sampler:
    def __init__(self, settings: LibraSamplerSettings) -> None:
        self.bins: int = settings.NUM_BINS


def build(config: Settings, key: str) -> float:
    Sampler(config.LIBRA.SAMPLER)
    path: str = config.DATASETS_EXTRA["mine"]["im_dir"]
    scales: tuple[float, ...] = config.TRAIN.SCALES
    return config.RETINANET.LOSS_GAMMA + config.MODEL[key]


def ours(config: Config, upstream: Any) -> float:
    return build(load("my.yaml"), "TYPE") + build(config, "TYPE") + build(upstream, "TYPE")
"""


_LOADED = """\
from detectron_ext.config import load

load("my.yaml").TRAIN.MAX_SIZ
load().TRIN
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """What mypy reports about a right program, one with mistakes, and one that loads a file."""
    pytest.importorskip("mypy")
    mistakes = {
        "config.LIBRA.SAMPLER)": "config.LIBRA.SAMPLR)",
        "config.RETINANET.LOSS_GAMMA": "config.RETINANET.LOSS_GAMA",
        "int = settings.NUM_BINS": "str = settings.NUM_BINS",
        'build(config, "TYPE")': 'build(config.MODEL, "TYPE")',
    }
    wrong = _PROGRAM
    for before, after in mistakes.items():
        assert before in wrong
        wrong = wrong.replace(before, after, 1)
    folder = tmp_path_factory.mktemp("programs")
    for name, text in {"right": _PROGRAM, "wrong": wrong, "loaded": _LOADED}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--ignore-missing-imports"]
    result = subprocess.run(
        [*command, "--no-error-summary", "--cache-dir", str(folder), *folder.glob("*.py")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    return result.stdout


def test_mypy_accepts_the_keys_that_exist(reported):
    assert "right.py" not in reported


def test_mypy_finds_wrong_keys_and_types(reported):
    assert reported.count("wrong.py") == 4
    assert '"LibraSettings" has no attribute "SAMPLR"' in reported
    assert '"RetinanetSettings" has no attribute "LOSS_GAMA"' in reported
    assert 'expression has type "int", variable has type "str"' in reported
    assert 'Argument 1 to "build" has incompatible type "ModelSettings"' in reported


def test_mypy_knows_the_keys_of_a_loaded_configuration(reported):
    assert '"TrainSettings" has no attribute "MAX_SIZ"' in reported
    assert '"Config" has no attribute "TRIN"' in reported


def run_tool(statement):
    """Run ``tools/document_config.py --check`` after a statement; the finished process."""
    program = f"""
import runpy, sys
from detectron_ext.config import document_writer
{statement}
sys.argv = ["tools/document_config.py", "--check"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_tool_names_the_file_that_is_not_current():
    assert run_tool("").returncode == 0
    stale = run_tool("document_writer.document = lambda: 'other text'")
    assert stale.returncode == 1
    assert stale.stderr == (
        "error: docs/configuration.md not current: run tools/document_config.py\n"
    )
