from __future__ import annotations

import errno
import json
import math
import os
import stat

import numpy as np
import pytest

from detectron_ext.array_pickle import write_pickle
from detectron_ext.errors import UserError
from detectron_ext.output_files import replaced_file, write_json, write_json_list, write_text


def test_json_is_strict_and_replaces_the_old_file(tmp_path):
    path = str(tmp_path / "new" / "results.json")
    write_json(path, {"AP": 0.5})
    write_json(
        path,
        {"AP": np.float32(0.25), "APl": math.nan, "n": np.int64(3), "l": [None, np.bool_(True)]},
    )
    with open(path, encoding="utf-8") as stream:
        contents = json.load(stream)
    assert contents == {"AP": 0.25, "APl": None, "n": 3, "l": [None, True]}
    assert os.listdir(str(tmp_path / "new")) == ["results.json"]


def test_failed_write_keeps_the_old_file_and_names_the_path(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=r"cannot write .*results\.json: No space left on device;"):
        write_json(str(path), {"AP": 0.75})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.json"]


def test_a_list_is_written_with_one_entry_per_line(tmp_path):
    path = tmp_path / "new" / "list.json"
    plain = {"bbox": [0.5, 1, 2, 3], "name": "é"}
    odd = {"score": np.float32(0.25), "n": np.int64(3), "nan": math.nan, "array": (math.inf, None)}
    write_json_list(str(path), iter([plain, odd, 7]))
    expected = [plain, {"score": 0.25, "n": 3, "nan": None, "array": [None, None]}, 7]
    assert json.loads(path.read_text()) == expected
    lines = path.read_text().splitlines()[1:-1]
    assert [json.loads(line.rstrip(",")) for line in lines] == expected
    write_json_list(str(path), [])
    assert json.loads(path.read_text()) == []


def test_an_error_in_a_list_keeps_the_old_file(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("old")

    def entries():
        yield 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_json_list(str(path), entries())
    with pytest.raises(TypeError):
        write_json_list(str(path), [object()])
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["list.json"]


class _Interrupting:
    """Ctrl-C in the middle of a pickle."""

    def __reduce__(self):
        raise KeyboardInterrupt


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_pickle(str(path), [np.ones(9), _Interrupting()])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["w.pkl"]


@pytest.mark.parametrize("write", [write_json, write_pickle])
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_files_are_as_readable_as_the_umask_says(tmp_path, write, umask, mode):
    before = os.umask(umask)
    try:
        write(str(tmp_path / "file"), {"a": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "file").st_mode) == mode


def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "w.pkl"
    synced = []

    def fsync(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append((is_folder, path.exists(), 0 if is_folder else os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    with replaced_file(str(path)) as file:
        file.write(b"weights")
    assert synced == [(False, False, 7), (True, True, 0)]
    assert path.read_bytes() == b"weights"


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(str(tmp_path / "a.json"), {})
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(str(path), "text")
    assert os.read(reader, 99) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(path).st_mode) and os.listdir(tmp_path) == ["pipe"]


def test_text_that_utf_8_does_not_have_is_replaced(tmp_path):
    write_text(str(tmp_path / "page.html"), "caf\u00e9 \udcff")
    assert (tmp_path / "page.html").read_bytes() == b"caf\xc3\xa9 ?"
