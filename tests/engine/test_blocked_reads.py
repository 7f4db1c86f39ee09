"""Ctrl-C ends a training whose images cannot be read because their disk does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from detectron_ext.data import loader as loading
from detectron_ext.data.loader import MinibatchLoader, WaitStopped
from detectron_ext.engine import train as training
from detectron_ext.engine.training_data import TrainingMinibatches
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import Interrupted


@pytest.fixture
def disk(monkeypatch):
    """An event without which reads block; a test that takes too long fails instead of hanging."""
    answers = threading.Event()
    monkeypatch.setattr(loading, "_CLOSE_SECONDS", 0.3)

    def end(number, frame):
        answers.set()
        raise AssertionError("the signal had no effect")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(30)
    yield answers
    answers.set()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _block_from(monkeypatch, first, disk, number=signal.SIGINT):
    """Let the reads of minibatches from `first` on block; a signal arrives in the wait for it."""
    make, wait = TrainingMinibatches.__call__, MinibatchLoader.next

    def make_or_block(self, number):
        if number >= first:
            disk.wait()
        return make(self, number)

    def wait_and_signal(self, *arguments):
        if self._to_return == first:
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        return wait(self, *arguments)

    monkeypatch.setattr(TrainingMinibatches, "__call__", make_or_block)
    monkeypatch.setattr(MinibatchLoader, "next", wait_and_signal)
    monkeypatch.setattr(MinibatchLoader, "__next__", wait_and_signal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_while_a_read_blocks(
    tiny_config, tmp_path, monkeypatch, disk, number
):
    config = tiny_config("TRAIN.SNAPSHOT_ITERS", "100")
    with monkeypatch.context() as patch:
        _block_from(patch, 3, disk, number)
        with pytest.raises(Interrupted, match="saved .*model_iter2.pkl; the same command resumes"):
            training.train(config)
    disk.set()
    straight = tiny_config("TRAIN.SNAPSHOT_ITERS", "100", "OUTPUT_DIR", str(tmp_path / "straight"))
    resumed, expected = (read_weights(training.train(each)).blobs for each in (config, straight))
    assert set(resumed) == set(expected)
    for name, array in resumed.items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_signal_before_the_first_iteration_ends_it(tiny_config, monkeypatch, disk):
    _block_from(monkeypatch, 0, disk)
    with pytest.raises(Interrupted, match="before the first iteration: nothing to save"):
        training.train(tiny_config())


def test_a_wait_that_is_given_up_can_be_repeated():
    release = threading.Event()
    with MinibatchLoader(lambda number: release.wait() and number, 1, 1) as loader:
        with pytest.raises(WaitStopped):
            loader.next(lambda: True)
        release.set()
        assert loader.next() == 0


def test_a_ready_minibatch_is_returned_whatever_is_asked():
    with MinibatchLoader(lambda number: number, 1, 1) as loader:
        while not loader.queue_size:
            time.sleep(0.01)
        assert loader.next(lambda: True) == 0


def test_a_thread_that_blocks_is_left_behind_and_said(disk, caplog):
    loader = MinibatchLoader(lambda number: disk.wait(), 2, 2)
    started = time.monotonic()
    loader.close()
    assert time.monotonic() - started < 10
    assert "2 threads that read images do not end" in caplog.text


def test_a_long_wait_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(loading, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(loading, "_LONG_SECONDS", 0.03)
    with MinibatchLoader(lambda number: time.sleep(0.3) or number, 1, 1, start=4) as loader:
        assert loader.next() == 4
    assert caplog.text.count("waiting for the images of iteration 4") == 1


def test_a_process_ends_although_a_thread_blocks():
    code = (
        "import os\n"
        "from detectron_ext.data import loader\n"
        "loader._CLOSE_SECONDS = 0.1\n"
        "end = os.pipe()[0]\n"
        "loader.MinibatchLoader(lambda number: os.read(end, 1), 2, 2).close()\n"
        "print('closed')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, b"closed\n")
