from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys

import pytest
from squares import REPOSITORY

from detectron_ext.errors import UserError
from detectron_ext.output_files import replaced_file, write_text
from detectron_ext.output_lock import locked_folder


def test_a_folder_is_locked_once_and_the_message_names_the_owner(tmp_path):
    folder = str(tmp_path)
    with locked_folder(folder):
        message = f"{folder} is in use by process {os.getpid()} on "
        with pytest.raises(UserError, match=message), locked_folder(folder):
            pass
        with pytest.raises(UserError, match="OUTPUT_DIR"), locked_folder(folder, shared=True):
            pass
        assert os.listdir(folder) == [".lock"]
    assert os.listdir(folder) == []
    with locked_folder(folder):
        pass


def test_a_shared_lock_is_shared_and_refuses_others(tmp_path):
    folder = str(tmp_path)
    with locked_folder(folder, shared=True):
        with locked_folder(folder, shared=True):
            pass
        assert os.listdir(folder) == [".lock"]
        with pytest.raises(UserError, match="is in use"), locked_folder(folder):
            pass
    assert os.listdir(folder) == []


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import os, sys; from detectron_ext.output_lock import locked_folder\n"
        "with locked_folder(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=str(REPOSITORY))
    assert os.listdir(tmp_path) == [".lock"]
    with locked_folder(str(tmp_path)):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_that_its_owner_has_just_removed_is_made_anew(tmp_path, monkeypatch):
    """Otherwise two processes could hold locks of different files of one name."""
    path = tmp_path / ".lock"
    path.write_text("")
    lock = fcntl.flock

    def remove_first(file, kind):
        if path.exists() and not path.read_text():
            path.unlink()
            monkeypatch.setattr(fcntl, "flock", lock)
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locked_folder(str(tmp_path)):
        assert path.read_text().startswith(str(os.getpid()))
        with pytest.raises(UserError, match="in use"), locked_folder(str(tmp_path)):
            pass


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING), locked_folder(str(tmp_path)):
        write_text(str(tmp_path / "a"), "a")
    assert "No locks available" in caplog.text and "only one process" in caplog.text
    assert (tmp_path / "a").read_text() == "a"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(UserError, match=f"cannot write {missing}/.lock"), locked_folder(missing):
        pass


def test_the_first_write_removes_what_killed_processes_left(tmp_path):
    abandoned = tmp_path / ("." + "0" * 32 + ".tmp")
    abandoned.write_text("half")
    (tmp_path / ".notes.tmp").write_text("a user's")
    with replaced_file(str(tmp_path / "first")) as file:
        file.write(b"1")
        assert not abandoned.exists()
        code = (
            "import sys; from detectron_ext.output_files import write_text as w; w(sys.argv[1], '')"
        )
        second = str(tmp_path / "second")
        done = subprocess.run([sys.executable, "-c", code, second], cwd=str(REPOSITORY))
        assert done.returncode == 0  # and did not remove the file that is being written
    assert sorted(os.listdir(tmp_path)) == [".notes.tmp", "first", "second"]


def test_a_full_disk_does_not_end_a_run_at_its_lock(tmp_path, monkeypatch):
    """The lock works without the text that names its owner."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    refused = pytest.raises(UserError, match="in use by another process")
    with locked_folder(str(tmp_path)), refused:
        locked_folder(str(tmp_path)).__enter__()
    assert os.listdir(str(tmp_path)) == []
