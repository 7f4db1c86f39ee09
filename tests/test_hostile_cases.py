"""Hostile inputs work or end in one line: see hostile_cases.py.

    DETECTRON_EXT_TEST_HOSTILE=5500 .venv/bin/python -m pytest -s tests/test_hostile_cases.py

Each case runs the reader of its kind. A child process reads a batch of them, so that a crash, a
hang or a lack of memory is seen, and costs only that process.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import hostile_cases
from hostile_cases import Cases
from squares import REPOSITORY, write_tiny_config

from detectron_ext import environment
from detectron_ext.config import load
from detectron_ext.conversion.caffe_model import convert_caffe_model
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.data.proposals import read_scored_proposals, with_proposals
from detectron_ext.data.records import training_records
from detectron_ext.data.transforms import read_file
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import UserError
from detectron_ext.evaluation.detections_file import read_detections
from detectron_ext.evaluation.training_log import read_training_log, training_costs
from detectron_ext.experiments.spec import read_spec

sys.path.insert(0, str(REPOSITORY / "tests" / "tools"))
from tool_runner import run_tool

_CASES = int(environment.TEST_HOSTILE.value or 300)
_SECONDS, _MEMORY = 30, 4 << 30
_BATCH = 50
_SLOW = ("caffe",)  # starts a process for each case


class Outcome(NamedTuple):
    """What a case led to.

    Attributes:
        kind, number: the case.
        result: "read", "refused", "no memory", or what is a fault.
        detail: the message.
    """

    kind: str
    number: int
    result: str
    detail: str

    @property
    def is_fault(self) -> bool:
        return self.result not in ("read", "refused", "no memory")


class _Readers:
    """Reads the files of a case as the tools do."""

    def __init__(self, config: Path):
        self._config = str(config)

    def read(self, kind: str, folder: Path) -> None:
        getattr(self, f"_{kind}")(str(folder / "main"), folder)

    def _yaml(self, path, folder):
        load(path)

    def _coco(self, path, folder):
        image_dir = str(Path(self._config).parent / "squares" / "images")
        entry = json.dumps({"squares": {"im_dir": image_dir, "ann_fn": path}})
        config = load(self._config, ["DATASETS_EXTRA", entry])
        training_records(config.TRAIN.DATASETS, config, None)

    def _detections(self, path, folder):
        read_detections(path)

    def _image(self, path, folder):
        read_file(path)

    def _weights(self, path, folder):
        read_weights(path)

    def _proposals(self, path, folder):
        read_scored_proposals(path)
        with_proposals([], path)

    def _pth(self, path, folder):
        read_checkpoint(path)

    def _caffe(self, path, folder):
        convert_caffe_model(str(folder / "net.prototxt"), path, str(folder / "net.pkl"))

    def _sweep(self, path, folder):
        read_spec(path)

    def _log(self, path, folder):
        training_costs(read_training_log(path))

    def _command(self, path, folder):
        name, *words = json.loads(Path(path).read_text())
        outcome = run_tool(name, *words)
        lines = [line for line in outcome.err.splitlines() if "error: " in line]
        if outcome.status != 2 or len(lines) != 1 or "Traceback" in outcome.err:
            raise AssertionError(f"status {outcome.status}: {outcome.err}")
        raise UserError(lines[0])


def _outcome(readers: _Readers, kind: str, folder: Path) -> tuple:
    """Return (result, detail) of reading a case in this process."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            readers.read(kind, folder)
    except UserError as error:
        if len(str(error)) > 20_000:
            return "a message of more than 20,000 characters", str(error)[:200]
        return "refused", str(error)[:200]
    except MemoryError:
        return "no memory", ""  # the tools print one line
    except SystemExit as error:
        return f"SystemExit {error.code}", ""
    except BaseException as error:
        return f"{type(error).__name__}", str(error)[:300]
    return "read", ""


def _child(readers: _Readers, cases: Cases, batch: list, folder: Path, pipe: int) -> None:
    """Read a batch, and write a line before and after each case."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    for kind, number in batch:
        place = folder / f"{kind}{number}"
        place.mkdir()
        for name, content in cases.make(kind, number).items():
            (place / name).write_bytes(content)
        os.write(pipe, b"begin\n")
        result = _outcome(readers, kind, place)
        os.write(pipe, json.dumps(result).encode() + b"\n")


def _run_batch(readers: _Readers, cases: Cases, batch: list, folder: Path) -> list[Outcome]:
    """Read a batch in a child process; a case that ends it is a fault, and the others go on."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.close(inlet)
            _child(readers, cases, batch, folder, outlet)
        os._exit(0)
    os.close(outlet)
    lines, hangs = _lines(inlet)
    os.close(inlet)
    if hangs:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    results = [json.loads(line) for line in lines if line != "begin"]
    outcomes = [Outcome(*case, *result) for case, result in zip(batch, results)]
    if len(results) < len(batch):
        case = batch[len(results)]
        # Status 0 is an exception of the case's maker.
        why = "hang" if hangs else f"signal {status & 127}"
        outcomes.append(Outcome(*case, why, ""))
        outcomes += _run_batch(readers, cases, batch[len(results) + 1 :], folder)
    return outcomes


def _lines(pipe: int) -> tuple[list, bool]:
    """Return the lines of a child until it ends, and whether it stopped writing for too long."""
    data, last = b"", time.monotonic()
    while True:
        # The limit is of processor time that this machine may give to others: it is checked twice.
        ready, _, _ = select.select([pipe], [], [], _SECONDS)
        if not ready and time.monotonic() - last > 4 * _SECONDS:
            return data.decode().splitlines(), True
        if ready:
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                return data.decode().splitlines(), False
            data, last = data + chunk, time.monotonic()


def _run_all(tmp_path: Path, count: int) -> list[Outcome]:
    config = write_tiny_config(tmp_path)
    cases, readers = Cases(tmp_path, config), _Readers(config)
    batch, outcomes = [], []
    for number in range(count):
        kind = cases.kinds[number % len(cases.kinds)]
        if kind in _SLOW and number >= len(cases.kinds) * 8 and number % 5:
            kind = "weights"
        batch.append((kind, number))
    for kind in cases.kinds:  # the valid files of a kind are made once, before the forks
        cases.make(kind, 0)
    for start in range(0, count, _BATCH):
        outcomes += _run_batch(readers, cases, batch[start : start + _BATCH], tmp_path / "cases")
    return outcomes


def test_hostile_inputs_work_or_end_in_one_line(tmp_path, monkeypatch):
    place = tmp_path / "elsewhere"
    for folder in (place, tmp_path / "cases"):
        folder.mkdir()
    monkeypatch.chdir(place)
    outcomes = _run_all(tmp_path, _CASES)
    table = collections.Counter((outcome.kind, outcome.result) for outcome in outcomes)
    for (kind, result), number in sorted(table.items()):
        print(f"{kind:12s} {result:20s} {number}")
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    assert not faults, "\n".join(map(str, faults[:40]))
    assert len(outcomes) == _CASES
    assert len({kind for kind, result in table if result == "refused"}) >= 10
    assert os.listdir(str(place)) == []  # nothing was written there
    allowed = {"main", "net.prototxt", "net.pkl"}
    assert {path.name for path in (tmp_path / "cases").glob("*/*")} <= allowed


def test_the_files_that_are_mutated_are_valid(tmp_path, monkeypatch):
    """Otherwise all mutations of a kind might be refused for the same reason."""
    monkeypatch.setattr(hostile_cases, "mutated_tree", lambda tree, draws: tree)
    monkeypatch.setattr(hostile_cases, "mutated_bytes", lambda content, draws: content)
    config = write_tiny_config(tmp_path)
    cases, readers = Cases(tmp_path, config), _Readers(config)
    for kind in cases.kinds:
        place = tmp_path / f"valid_{kind}"
        place.mkdir()
        for name, content in cases.make(kind, 3).items():
            (place / name).write_bytes(content)
        if kind != "command":  # their configuration does not exist
            readers.read(kind, place)
