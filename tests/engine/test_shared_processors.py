"""Steps beside other programs get fewer threads, and as many as before when these end."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from squares import write_tiny_config, write_tiny_rcnn_config

from detectron_ext.config import load
from detectron_ext.engine import shared_processors as module
from detectron_ext.engine import train as training
from detectron_ext.engine import training_loop
from detectron_ext.engine.shared_processors import FixedThreads, SharedProcessors
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.ops.library import native_library_loaded, thread_setter

needs_native_library = pytest.mark.skipif(
    not native_library_loaded(), reason="the native operators are not built (make ops)"
)


class _Machine:
    """A made-up machine: `pace` tells how long a step takes with a number of threads."""

    def __init__(self, threads=2):
        self.time = self.waited = 0.0
        self.threads = threads
        self.changes = []
        self.pace, self.waiting = {}, {}

    def set_threads(self, threads):
        self.threads = threads
        self.changes.append(threads)

    def run(self, processors, seconds):
        end = self.time + seconds
        while self.time < end:
            step = self.pace[self.threads]
            self.time += step
            self.waited += step * self.waiting[self.threads]
            processors.after_step()


_ALONE = ({1: 0.30, 2: 0.20, 4: 0.12}, {1: 0.0, 2: 0.05, 4: 0.05})
_BESIDE = ({1: 0.40, 2: 0.80, 4: 1.50}, {1: 0.15, 2: 0.5, 4: 0.6})


def _machine(state, threads=2):
    machine = _Machine(threads)
    machine.pace, machine.waiting = state
    processors = SharedProcessors(
        threads, machine.set_threads, lambda: machine.time, lambda: machine.waited
    )
    return machine, processors


def test_alone_nothing_changes(caplog):
    machine, processors = _machine(_ALONE)
    machine.run(processors, 600)
    processors.end()
    assert machine.changes == [2]  # at the end
    assert caplog.messages == []


@pytest.mark.parametrize("threads", [2, 4])
def test_beside_other_programs_the_fastest_number_is_found(threads, caplog):
    caplog.set_level("INFO", logger="detectron_ext")
    machine, processors = _machine(_BESIDE, threads)
    machine.run(processors, 60)
    assert machine.threads == 1
    machine.run(processors, 900)
    processors.end()
    assert machine.threads == threads
    told = [line for line in caplog.messages if "other programs use the processors" in line]
    assert len(told) == 1  # also with 4 threads, where it takes two changes
    assert "ran with fewer than" in caplog.messages[-1]


def test_trials_of_more_threads_cost_little():
    machine, processors = _machine(_BESIDE)
    machine.run(processors, 60)
    steps, start = 0, machine.time
    while machine.time < start + 2000:
        before = machine.time
        machine.run(processors, 1e-9)
        steps += 1
        assert machine.time > before
    assert 2000 / steps < 1.05 * machine.pace[1]


def test_all_threads_are_back_when_the_other_programs_end():
    machine, processors = _machine(_BESIDE, 4)
    machine.run(processors, 900)
    assert machine.threads == 1
    machine.pace, machine.waiting = _ALONE
    machine.run(processors, 300)
    assert machine.threads == 4


def test_fewer_threads_that_gain_nothing_do_not_stay():
    machine, processors = _machine(({1: 0.9, 2: 0.9}, {1: 0.5, 2: 0.5}))
    machine.run(processors, 600)
    assert machine.threads == 2 or processors._before_trial
    assert 2 * 4 <= len(machine.changes) <= 2 * 10  # a trial now and then, each taken back


class _EachStepAnotherNumber:
    def __init__(self):
        self.number = 0

    def after_step(self):
        self.number += 1
        thread_setter()(1 + self.number % 3)

    def end(self):
        thread_setter()(1)


_NETWORKS = {
    "retinanet": (write_tiny_config, ()),
    "libra_retinanet": (
        write_tiny_config, ("LIBRA.BFP.ON", True, "LIBRA.BALANCED_L1.ON", True),
    ),
    "faster_rcnn": (write_tiny_rcnn_config, ("TRAIN.IMS_PER_BATCH", 2)),
    "EfficientNet": (
        write_tiny_config,
        ("MODEL.CONV_BODY", "FPN.add_fpn_EfficientNetLite0_conv5_body", "TRAIN.FREEZE_AT", 0),
    ),
}  # fmt: skip


@needs_native_library
@pytest.mark.parametrize("network", _NETWORKS)
def test_weights_do_not_depend_on_when_the_number_changes(network, tmp_path, monkeypatch):
    write, settings = _NETWORKS[network]
    path, weights = str(write(tmp_path)), []
    for changing in (FixedThreads(), _EachStepAnotherNumber()):
        monkeypatch.setattr(training_loop, "shared_processors", lambda *_, fake=changing: fake)
        output = str(tmp_path / str(len(weights)))
        config = load(path, ["SOLVER.MAX_ITER", 6, "OUTPUT_DIR", output, *settings])
        weights.append(read_weights(training.train(config)).blobs)
    assert changing.number == 6
    fixed, changed = weights
    assert fixed.keys() == changed.keys()
    assert [n for n in fixed if fixed[n].tobytes() != changed[n].tobytes()] == []


@pytest.mark.parametrize(
    "change",
    [{}, {"threads": 0}, {"threads": 1}, {"setter": None}, {"waited": None}, {"gpus": 1},
     {"processes": 2}, {"fast_conv": "False"}, {"variable": "0"}],
)  # fmt: skip
def test_the_number_is_fixed_where_it_must_not_or_cannot_change(change, monkeypatch):
    case = {"threads": 2, "setter": print, "waited": 0.0, "gpus": 0, "processes": 1,
            "fast_conv": "auto", "variable": "", **change}  # fmt: skip
    monkeypatch.setattr(module, "free_threads", lambda: case["threads"])
    monkeypatch.setattr(module, "thread_setter", lambda: case["setter"])
    monkeypatch.setattr(module, "seconds_waited", lambda: case["waited"])
    monkeypatch.setenv("DETECTRON_EXT_FAST_CONV", case["variable"])
    libra = SimpleNamespace(FAST_CONV=case["fast_conv"])
    model = SimpleNamespace(num_gpus=case["gpus"], config=SimpleNamespace(LIBRA=libra))
    found = module.shared_processors(model, case["processes"])
    assert isinstance(found, FixedThreads if change else SharedProcessors)


_PROGRAM = """
import ctypes
from detectron_ext.engine.startup import free_threads, set_threads
set_threads({threads})
from detectron_ext.ops import library
library.load()
library.thread_setter()(3)
print(free_threads(), ctypes.CDLL(str(library.NATIVE_LIBRARY)).omp_get_max_threads())
"""


@needs_native_library
@pytest.mark.parametrize(
    "threads, environment, free",
    [(0, {}, True), (2, {}, False), (0, {"OMP_NUM_THREADS": "2"}, False)],
)
def test_a_number_that_a_person_has_set_stays(threads, environment, free):
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    child = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(threads=threads)],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found, set_to = map(int, child.stdout.split())
    assert found == (len(os.sched_getaffinity(0)) if free else 0)
    assert set_to == 3
