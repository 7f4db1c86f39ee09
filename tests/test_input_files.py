"""Files that block or never end are refused in one line, wherever a user can name one."""

from __future__ import annotations

import os
import signal

import pytest

from detectron_ext import config as configuration
from detectron_ext.array_pickle import read_pickle
from detectron_ext.commands import infer
from detectron_ext.conversion.caffe_model import convert_caffe_model
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.data import data_record, exif, formats, transforms
from detectron_ext.data.catalog import DatasetEntry
from detectron_ext.data_check import same_images
from detectron_ext.engine import statistics
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import UserError
from detectron_ext.evaluation.detections_file import read_detections
from detectron_ext.evaluation.training_log import read_training_log
from detectron_ext.experiments.spec import read_spec
from detectron_ext.input_files import open_input, read_start


def _read_coco(path):
    return formats.read_annotations(DatasetEntry("d", os.path.dirname(path), path))


_READERS = {
    "image": transforms.read_file,
    "annotations": _read_coco,
    "weights": read_weights,
    "proposals": lambda path: read_pickle(path, "proposals", UserError),
    "PyTorch checkpoint": read_checkpoint,
    "Caffe model": lambda path: convert_caffe_model(path, path, path + ".pkl"),
    "detections": read_detections,
    "training log": read_training_log,
    "statistics": statistics._read_lines,
    "digest": data_record._digest,
}


@pytest.fixture(autouse=True)
def no_endless_wait():
    """Fail a test that blocks, instead of waiting for ever."""

    def end(number, frame):
        raise AssertionError("it blocks")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(str(path))
    return str(path)


@pytest.mark.parametrize("kind", _READERS)
def test_a_pipe_is_refused_and_named(kind, pipe):
    with pytest.raises(UserError, match="a pipe, not a file") as caught:
        _READERS[kind](pipe)
    assert pipe in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", _READERS)
def test_a_device_that_never_ends_is_refused_and_named(kind):
    with pytest.raises(UserError, match="a device, not a file") as caught:
        _READERS[kind]("/dev/zero")
    assert "/dev/zero" in str(caught.value)


def test_files_that_are_only_looked_at_are_passed_over(pipe):
    assert exif._head(pipe) == b""
    assert same_images._digest(pipe) == ""
    assert not infer._can_read(pipe)
    assert infer._earlier_images(pipe) == []


def test_a_configuration_may_come_from_a_pipe_that_ends():
    reading, writing = os.pipe()
    os.write(writing, b"SOLVER: {MAX_ITER: 77}\n")
    os.close(writing)
    assert configuration.load(f"/dev/fd/{reading}").SOLVER.MAX_ITER == 77
    os.close(reading)


@pytest.mark.parametrize("read", [configuration.load, read_spec])
def test_a_configuration_that_never_ends_is_refused(read):
    with pytest.raises(UserError, match="longer than [0-9]+ characters"):
        read("/dev/zero")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.json"
    with open(str(path), "wb") as file:
        file.truncate(3 << 30)  # a file with a hole takes no space
    for read in (_read_coco, read_detections):
        with pytest.raises(UserError, match="3221225472 bytes, more than the 2147483648") as caught:
            read(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="3221225472 bytes, more than the 1073741824"):
        transforms.read_file(str(path))


def test_a_refused_file_is_closed(pipe, tmp_path):
    before = os.listdir("/proc/self/fd")
    for path in (pipe, str(tmp_path), "/dev/zero"):
        with pytest.raises(OSError):
            open_input(path)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert read_start("/dev/zero", 5) == bytes(5)
