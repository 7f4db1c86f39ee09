"""Runs that are killed at random moments end with the weights of the run that was not.

    DETECTRON_EXT_TEST_KILLS=30 .venv/bin/python -m pytest -s tests/tools/test_kills.py

The moments are drawn: anywhere, during the writing of a checkpoint, during the test, and during a
sweep. A line for each kill says what it met.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
from squares import REPOSITORY, write_tiny_config

from detectron_ext import environment
from detectron_ext.engine.weights_file import read_weights

_KILLS = int(environment.TEST_KILLS.value or 3)
_SETTINGS = [
    "TRAIN.IMS_PER_BATCH", "1", "TRAIN.SNAPSHOT_ITERS", "2",
    "SOLVER.MAX_ITER", "16" if _KILLS > 3 else "6", "LIBRA.TRAIN.KEEP_CHECKPOINTS", "3",
]  # fmt: skip


class _Run:
    """A command that is started again after each kill.

    Attributes:
        output: folder that the command writes to.
    """

    def __init__(self, command: list, output: Path):
        self._command, self.output = [sys.executable, *map(str, command)], output
        self._log = output.with_suffix(".log")

    def start(self) -> subprocess.Popen:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=str(REPOSITORY), start_new_session=True
            )

    def finish(self) -> None:
        assert self.start().wait() == 0, self._log.read_text()

    def kill_when(self, moment: Callable[[], bool]) -> str:
        """Start, wait for a moment and kill all processes; return what was met."""
        process = self.start()
        while process.poll() is None and not moment():
            time.sleep(0.001)
        if process.poll() is not None:
            assert process.returncode == 0, self._log.read_text()
            return "had ended"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if list(self.output.rglob(".*.tmp")):
            return "left a part-written file"
        return "was testing" if self.trained() else "was training"

    def trained(self) -> bool:
        return any(self.output.rglob("model_final.pkl"))

    def weights(self) -> dict:
        """Return the final weights of each run in the folder, by their paths in it."""
        paths = sorted(self.output.rglob("model_final.pkl"))
        return {str(p.relative_to(self.output)): read_weights(str(p)).blobs for p in paths}

    def detections(self) -> list:
        paths = sorted(self.output.rglob("detections.json"))
        return [path.read_bytes() for path in paths]


def _anywhere(run: _Run, draws: random.Random) -> Callable[[], bool]:
    end = time.monotonic() + draws.uniform(0, run_seconds(run))
    return lambda: time.monotonic() > end


def _while_writing(run: _Run, draws: random.Random) -> Callable[[], bool]:
    """Return the moment at which a temporary file of some size is there."""
    size = draws.choice([0, 1, 100_000])

    def moment():
        return any(_size(path) >= size for path in run.output.rglob(".*.tmp"))

    return moment


def _while_testing(run: _Run, draws: random.Random) -> Callable[[], bool]:
    """Return a moment soon after the final weights were written."""
    delay, seen = draws.uniform(0, 2), []

    def moment():
        if run.trained() and not seen:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() > seen[0] + delay

    return moment


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # renamed meanwhile
        return -1


_SECONDS: dict = {}


def run_seconds(run: _Run) -> float:
    """Return how long the undisturbed run of the same kind took."""
    return _SECONDS[run.output.parent]


def _campaign(command: Callable[[Path], list], folder: Path, kinds: list, kills: int) -> None:
    """Compare an undisturbed run with others that are killed and started again."""
    whole = _Run(command(folder / "whole"), folder / "whole")
    started = time.monotonic()
    whole.finish()
    _SECONDS[folder] = time.monotonic() - started
    draws, done, number = random.Random(5), 0, 0
    while done < kills:
        number += 1
        killed = _Run(command(folder / f"killed{number}"), folder / f"killed{number}")
        for kind in kinds[: kills - done]:
            met = killed.kill_when(kind(killed, draws))
            done += met != "had ended"
            print(f"run {number}, kill {done} ({kind.__name__.strip('_')}): {met}", flush=True)
        killed.finish()
        _assert_same(whole, killed)


def _assert_same(whole: _Run, killed: _Run) -> None:
    """Compare weights and detections, bit for bit."""
    expected, found = whole.weights(), killed.weights()
    assert expected.keys() == found.keys()
    for path, blobs in expected.items():
        assert blobs.keys() == found[path].keys()
        for name, blob in blobs.items():
            assert blob.tobytes() == found[path][name].tobytes(), (path, name)
    assert whole.detections() == killed.detections() and whole.detections()
    assert not list(killed.output.rglob(".*.tmp"))


def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    config = write_tiny_config(tmp_path)

    def command(output):
        return ["tools/train_net.py", "--cfg", config, *_SETTINGS, "OUTPUT_DIR", output]

    kinds = [_while_writing, _anywhere, _while_testing]
    if len(kinds) < _KILLS:
        kinds = [_while_writing, _anywhere, _anywhere, _while_writing, _while_testing]
    _campaign(command, tmp_path, kinds, _KILLS)


@pytest.mark.skipif(_KILLS <= 3, reason="takes minutes: set DETECTRON_EXT_TEST_KILLS to 30")
def test_a_killed_sweep_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    config = str(write_tiny_config(tmp_path))
    overrides = dict(zip(_SETTINGS[::2], map(int, _SETTINGS[1::2])))
    content = {
        "seeds": [1], "overrides": {**overrides, "SOLVER.MAX_ITER": 6},
        "variants": {
            "plain": {"config": config},
            "libra": {"config": config, "overrides": {"LIBRA.BFP.ON": True}},
        },
    }  # fmt: skip
    spec = tmp_path / "sweep.yaml"
    spec.write_text(json.dumps(content))
    _campaign(
        lambda output: ["tools/sweep.py", spec, "--results", output],
        tmp_path, [_anywhere, _while_writing, _anywhere], _KILLS // 3,
    )  # fmt: skip
