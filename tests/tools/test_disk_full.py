"""A disk that is full at any moment of writing: one line, status 2, and what was there stays.

The largest size of a file is limited (``ulimit -f``), so that each kind of file is cut at some of
the sizes: locks, statistics, checkpoints, detections, scores, pictures, pages. Or the folder is on
a small file system, which is full at any byte of all files together.

    DETECTRON_EXT_TEST_DISKS=50 .venv/bin/python -m pytest -s tests/tools/test_disk_full.py
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tool_runner import Outcome, failure, run_tool

from detectron_ext import environment
from detectron_ext.engine.weights_file import read_weights

# How many sizes of files and of disks are tried, and the part of them that are disks.
_DISKS = int(environment.TEST_DISKS.value or 3)
_SMALL = max(1, _DISKS * 2 // 5)
_PAGE = 4096  # how a file system of memory counts


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


def _spread(least: int, most: int, count: int) -> list[int]:
    """Return so many sizes between two, at equal ratios."""
    return [int(size) for size in np.geomspace(least, most, count + 2)[1:-1]]


def _training(workplace, output: Path) -> list:
    return [
        "train_net", "--skip-test", "--cfg", workplace.cfg, "OUTPUT_DIR", output,
        "SOLVER.MAX_ITER", 2, "TRAIN.SNAPSHOT_ITERS", 1,
    ]  # fmt: skip


def _check_what_a_training_left(workplace, limited: _Limited, output: Path, first: bytes) -> str:
    """Check a training that may have found a full disk; return what happened.

    Its first checkpoint stays, no file is left half written, and without the limit it goes on to
    the weights of an undisturbed training.
    """
    folder = output / "train" / "squares" / "retinanet"
    message = limited.message()
    assert not message or message.startswith("cannot write "), limited
    assert (folder / "model_iter0.pkl").read_bytes() == first, limited.size
    assert not _temporaries(output), limited.size
    expected = read_weights(str(workplace.weights)).blobs
    if not message:
        assert (folder / "model_final.pkl").exists(), limited.size
    for path in folder.glob("model_*.pkl"):
        read_weights(str(path))
    if message:
        again = run_tool(*_training(workplace, output))
        assert again.status == 0, (limited.size, again.err)
    found = read_weights(str(folder / "model_final.pkl")).blobs
    assert all((blob == found[name]).all() for name, blob in expected.items()), limited.size
    return message or "enough"


def _copied_output(workplace, output: Path) -> bytes:
    """Copy what the training left up to its first checkpoint; return the checkpoint's bytes."""
    shutil.copytree(str(workplace.folder / "output" / "train"), str(output / "train"))
    return (output / "train" / "squares" / "retinanet" / "model_iter0.pkl").read_bytes()


def test_a_training_survives_files_of_any_size(workplace, tmp_path):
    largest = workplace.weights.stat().st_size
    for size in _spread(1000, 2 * largest, _DISKS - _SMALL):
        output = tmp_path / f"output{size}"
        first = _copied_output(workplace, output)
        limited = _run_limited(size, *_training(workplace, output))
        message = _check_what_a_training_left(workplace, limited, output, first)
        print(f"files of {size} bytes: {message[:90]}")


def _mount(folder: Path, size: int) -> bool:
    """Mount a file system of so many bytes; return whether the system allows it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def _pages(folder: Path) -> int:
    """Return how many pages of memory the files of a folder take."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(-(-path.stat().st_size // _PAGE) for path in files)


def test_a_training_survives_disks_of_any_size(workplace, tmp_path):
    if shutil.which("mount") is None:
        pytest.skip("needs the program mount")
    source = workplace.folder / "output" / "train"
    weights = -(-workplace.weights.stat().st_size // _PAGE)
    for left in sorted(set(_spread(1, 3 * weights, _SMALL))):
        disk = tmp_path / f"disk{left}"
        if not _mount(disk, (_pages(source) + left) * _PAGE):
            pytest.skip("needs the right to mount a file system")
        try:
            first = _copied_output(workplace, disk)
            outcome = _run_limited(resource.RLIM_INFINITY, *_training(workplace, disk))
            limited = _Limited(outcome.outcome, left)
            subprocess.check_call(["mount", "-o", "remount,size=1g", str(disk)])
            message = _check_what_a_training_left(workplace, limited, disk, first)
        finally:
            subprocess.check_call(["umount", str(disk)])
        print(f"a disk with {left} free pages: {message[:90]}")


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
