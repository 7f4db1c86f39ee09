"""A disk that is full at any moment of writing: one line, status 2, and what was there stays.

The largest size of a file is limited (``ulimit -f``), so that each kind of file is cut at some of
the sizes: locks, statistics, checkpoints, detections, scores, pictures, pages.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest
from tool_runner import Outcome, failure, run_tool

from detectron_ext.engine.weights_file import read_weights


class _Limited(NamedTuple):
    """What a tool left, whose files were limited to a size.

    Attributes:
        outcome: its output.
        size: the limit in bytes.
    """

    outcome: Outcome
    size: int

    def message(self) -> str:
        """Return the error; "" if the tool needed no larger file."""
        return failure(self.outcome) if self.outcome.status else ""


def _run_limited(size: int, tool: str, *arguments) -> _Limited:
    """Run a tool in a child process whose files cannot be larger than ``size`` bytes."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if not child:
        os.close(inlet)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            outcome = run_tool(tool, *arguments)
        except BaseException:  # what a person would see as a traceback
            outcome = Outcome(-1, "", traceback.format_exc())
        os.write(outlet, json.dumps([outcome.status, "", outcome.err[-30_000:]]).encode())
        os._exit(0)
    os.close(outlet)
    with open(inlet, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return _Limited(Outcome(*json.loads(text)), size)


@pytest.fixture
def copy(workplace, tmp_path) -> Path:
    """A copy of the trained workplace's output, with its configuration as its OUTPUT_DIR."""
    shutil.copytree(str(workplace.folder / "output"), str(tmp_path / "output"))
    shutil.copy(str(workplace.weights), str(tmp_path / "model.pkl"))
    return tmp_path


def _states(folder: Path) -> dict:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def _temporaries(folder: Path) -> list:
    return list(folder.rglob(".*.tmp"))


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_training_keeps_its_checkpoint(workplace, copy, size):
    """It goes on from the checkpoint as soon as there is room."""
    command = [
        "train_net", "--skip-test", "--cfg", workplace.cfg, "OUTPUT_DIR", copy / "output",
        "SOLVER.MAX_ITER", 2, "TRAIN.SNAPSHOT_ITERS", 1,
    ]  # fmt: skip
    folder = copy / "output" / "train" / "squares" / "retinanet"
    checkpoint = (folder / "model_iter0.pkl").read_bytes()
    limited = _run_limited(size, *command)
    assert limited.message().startswith("cannot write "), limited
    assert (folder / "model_iter0.pkl").read_bytes() == checkpoint
    assert not (folder / "model_final.pkl").exists() and not _temporaries(copy)
    if size == 100_000:
        assert run_tool(*command).status == 0
        expected = read_weights(str(copy / "model.pkl")).blobs
        found = read_weights(str(folder / "model_final.pkl")).blobs
        assert all((blob == found[name]).all() for name, blob in expected.items())


@pytest.mark.parametrize(
    "tool, size",
    [
        ("test_net", 100),
        ("infer_simple", 300),
        ("compare_runs", 300),
    ],
)
def test_a_tool_keeps_earlier_results(workplace, copy, tool, size):
    """Each file is the old one or a complete new one."""
    arguments = {
        "test_net": ["--cfg", workplace.cfg, "OUTPUT_DIR", copy / "output", "VIS", "True"]
        + ["TEST.WEIGHTS", copy / "model.pkl", "VIS_TH", 0.0],
        "infer_simple": ["--cfg", workplace.cfg, "--wts", copy / "model.pkl"]
        + ["--output-dir", copy / "drawn", "--thresh", 0.0, workplace.images],
        "compare_runs": ["--baseline", copy / "output", "--candidate", copy / "output"]
        + ["--cfg", workplace.cfg, "--output-dir", copy / "compared", "--resamples", 5],
    }[tool]
    before = _states(copy)
    limited = _run_limited(size, tool, *arguments)
    assert "cannot write" in limited.message(), limited
    assert not _temporaries(copy)
    for path, content in before.items():
        assert path.exists()
        if path.suffix == ".json" and path.read_bytes() != content:
            json.loads(path.read_text())
    for path in (copy / "drawn", copy / "compared"):
        for name in path.rglob("*.json") if path.exists() else ():
            json.loads(name.read_text())
