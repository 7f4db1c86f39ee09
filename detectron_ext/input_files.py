"""Opening the files that a user names, so that none of them blocks or takes all memory.

Reading a named pipe waits until somebody writes into it, and a device may never end. Both errors
here are OSErrors, so that they are reported like a file that is missing.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_input(path: str | os.PathLike, most: int | None = None) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        path: the file.
        most: size in bytes that it may have; None for any.

    Raises:
        OSError: it cannot be opened, is a folder, a pipe, a socket or a device, or is larger; its
            ``strerror`` says so in words.
        ValueError: the path has a null character.
    """
    # Without O_NONBLOCK, opening a pipe waits for its writer. It changes nothing for a file.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fspath(path), os.fstat(handle), most)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check(path: str, status: os.stat_result, most: int | None) -> None:
    """Raise OSError unless an open file is a regular one that has at most so many bytes."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file", path)
    if most is not None and status.st_size > most:
        found = f"it has {status.st_size} bytes, more than the {most} that are read"
        raise OSError(errno.EFBIG, found, path)


def read_text(path: str | os.PathLike, most: int) -> str:
    """Return the text of a file in UTF-8 that has at most so many bytes.

    Raises:
        OSError: as of :func:`open_input`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_input(path, most) as file:
        return file.read().decode("utf-8")


def read_start(path: str | os.PathLike, most: int) -> bytes:
    """Return at most so many bytes from the beginning of a file, a pipe or a device.

    This is for what a shell may give as a pipe, as in ``--cfg <(generate)``. A pipe is waited for.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(most)
