"""Locks on the folders of runs, so that two processes do not write to one folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from typing import BinaryIO, Iterator

from detectron_ext.errors import UserError

_LOG = logging.getLogger(__name__)
_NAME = ".lock"


@contextlib.contextmanager
def locked_folder(folder: str, shared: bool = False) -> Iterator[None]:
    """Lock a folder for the ``with`` block.

    The system unlocks it when the process ends, however that happens. A file system without locks
    is used without one; a warning says so.

    Args:
        folder: an existing folder that can be written.
        shared: other processes may lock it at the same time if they share it, too.

    Raises:
        UserError: another process has locked the folder; the message names it.
    """
    path = os.path.join(folder, _NAME)
    file = _locked_file(path, folder, shared)
    try:
        yield
    finally:
        if file:
            with file, contextlib.suppress(OSError):
                # Whoever shares the lock needs the file.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)


def is_locked(folder: str) -> bool | None:
    """Return whether a process has locked a folder; None if the file system has no locks."""
    try:
        with open(os.path.join(folder, _NAME), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _locked_file(path: str, folder: str, shared: bool) -> BinaryIO | None:
    """Return the open lock file; None if the file system has no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        try:
            file = open(path, "a+b")  # noqa: SIM115
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {path}: {reason}; choose another folder") from error
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise _in_use(folder, file) from None
        except OSError as error:
            file.close()
            _LOG.warning(
                "%s cannot be locked (%s): run only one process in it", folder, error.strerror
            )
            return None
        if _is_at(path, file):
            # Only a message needs the owner: a full disk does not end the run here.
            with contextlib.suppress(OSError):
                file.truncate(0)
                os.write(file.fileno(), f"{os.getpid()} on {socket.gethostname()}".encode())
            return file
        file.close()  # its owner has ended and removed it since it was opened


def _is_at(path: str, file: BinaryIO) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _in_use(folder: str, file: BinaryIO) -> UserError:
    file.seek(0)
    owner = file.read(200).decode("utf-8", "replace")
    process = f"process {owner}" if owner else "another process"
    return UserError(
        f"{folder} is in use by {process}: wait until it has ended, or set OUTPUT_DIR to another "
        "folder"
    )
