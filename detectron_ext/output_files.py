"""Writing files: folders are checked before the work, and a file appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Iterator

import numpy as np

from detectron_ext.errors import UserError

# The name that replaced_file gives to a file that is not complete yet.
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
# Folders from which this process has removed what killed processes left.
_cleaned: set[str] = set()
_ENCODER = json.JSONEncoder(allow_nan=False)


def check_writable_folder(folder: str, what: str, advice: str) -> None:
    """Check that files can be written to a folder or, if it does not exist, that it can be made.

    Nothing is made. Call this before the inputs are read, so that a wrong input leaves no folder,
    and `make_writable_folder` when they have been read.

    Args:
        folder: its path.
        what: what is written and where to, for the message: "pictures to folder".
        advice: what the user can do about an error, for the message.

    Raises:
        UserError: the folder or the nearest folder above it that exists cannot be written to.
    """
    reason = _obstacle(os.path.abspath(folder))
    if reason is not None:
        raise UserError(f"cannot write {what} {folder}: {reason}; {advice}")


def _obstacle(folder: str) -> str | None:
    """Return why files cannot be written to a folder, or why it cannot be made; None if they can.

    The operating system may still refuse to make the folder.
    """
    existing = folder
    try:
        while not _exists(existing):
            existing = os.path.dirname(existing)
    except OSError as error:
        return error.strerror or str(error)
    if not os.path.isdir(existing):
        return os.strerror(errno.EEXIST if existing == folder else errno.ENOTDIR)
    return None if os.access(existing, os.W_OK | os.X_OK) else "no permission"


def _exists(path: str) -> bool:
    """Return whether there is anything at a path; raise OSError for a path that cannot be."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def make_writable_folder(folder: str, what: str, advice: str) -> None:
    """Make a folder if needed and check that files can be written to it.

    Args:
        folder, what, advice: as of `check_writable_folder`.

    Raises:
        UserError: the folder cannot be made, or files cannot be written to it.
    """
    check_writable_folder(folder, what, advice)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {what} {folder}: {reason}; {advice}") from error


@contextlib.contextmanager
def replaced_file(path: str) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the ``with`` block has ended.

    The file is written under another name and renamed once it is on the disk; the new name is on
    the disk, too, when the block has ended. Until then, and if anything interrupts the block, the
    old file stays as it is. A device or a pipe, such as /dev/null, is written directly.

    Args:
        path: the file; its folder is made if needed.

    Raises:
        UserError: the file cannot be written.
    """
    if _is_device_or_pipe(path):
        with _written(path), open(path, "wb") as file:
            yield file
        return
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        with _written(path):
            os.makedirs(folder, exist_ok=True)
            if folder not in _cleaned:
                _cleaned.add(folder)
                remove_temporaries(folder)
            with _new_temporary(folder) as file:
                temporary = file.name
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            _sync_folder(folder)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _new_temporary(folder: str) -> BinaryIO:
    """Return a new file that is locked, so that no other process takes it for an abandoned one."""
    while True:
        # The tempfile module makes files that only their owner can read, whatever the umask is.
        # For the name see _TEMPORARY.
        file = open(os.path.join(folder, f".{uuid.uuid4().hex}.tmp"), "xb")  # noqa: SIM115
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # removed before it was locked


@contextlib.contextmanager
def _written(path: str) -> Iterator[None]:
    """Turn an error of the operating system into one line that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose another folder") from error


def _is_device_or_pipe(path: str) -> bool:
    """Return whether a path is a device or a pipe, which a renamed file would replace."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _sync_folder(folder: str) -> None:
    """Put the names in a folder on the disk.

    Some file systems cannot do that (EINVAL), and a folder may be writable but not readable
    (EACCES). The file is complete nevertheless.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove_temporaries(folder: str) -> None:
    """Remove the incomplete files that killed processes left in a folder (see `replaced_file`).

    Files that a process still writes are locked, and stay.

    Args:
        folder: an existing folder.
    """
    with contextlib.suppress(OSError):  # such files do no harm
        for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
            _remove_abandoned(os.path.join(folder, name))


def _remove_abandoned(path: str) -> None:
    """Remove a file unless a process has locked it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(handle)


def write_bytes(path: str, data: bytes) -> None:
    """Write a file that appears whole or not at all; see `replaced_file`.

    Raises:
        UserError: the file cannot be written.
    """
    with replaced_file(path) as file:
        file.write(data)


def write_text(path: str, text: str) -> None:
    """Write text as UTF-8; the file appears whole or not at all.

    Names of files that are not UTF-8 hold characters that UTF-8 does not have: they become "?".

    Raises:
        UserError: the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "replace"))


def write_json(path: str, content: Any) -> None:
    """Write JSON that is easy to read (indented); the file appears whole or not at all.

    Args:
        path: the file; its folder is made if needed.
        content: mappings, lists, tuples, text, booleans, None and numbers (numpy's too). NaN and
            infinity are written as null, because JSON has neither.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_json_list(path: str, entries: Iterable[Any]) -> None:
    """Write a long JSON list, an entry a line; the file appears whole or not at all.

    Entries are written as they come, so neither the list nor its text needs to be in memory. This
    is several times faster than :func:`write_json`, and the file is half as large.

    Args:
        path, entries: as ``path`` and ``content`` of :func:`write_json`.

    Raises:
        UserError: the file cannot be written.
    """
    with replaced_file(path) as file:
        separator = b"["
        for entry in entries:
            file.write(separator + b"\n" + _encoded(entry))
            separator = b","
        file.write(b"\n]\n" if separator == b"," else b"[]\n")


def _encoded(entry: Any) -> bytes:
    try:
        text = _ENCODER.encode(entry)
    except (TypeError, ValueError):
        # This entry holds what strict JSON lacks. Converting every entry would take most of the
        # time.
        text = _ENCODER.encode(_plain(entry))
    return text.encode("ascii")


def _plain(value: Any) -> Any:
    """Return the same value in types that strict JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    return value
