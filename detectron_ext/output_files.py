"""What is written: folders are checked before the work, files appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import uuid
from collections.abc import Mapping
from typing import Any, BinaryIO, Iterator

import numpy as np

from detectron_ext.errors import UserError

# What replaced_file calls a file that is not whole yet.
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


def make_writable_folder(folder: str, what: str, advice: str) -> None:
    """Make a folder if needed and check that files can be written to it.

    Args:
        folder: its path.
        what: what is written where, for the message: "pictures to folder".
        advice: what to do if it cannot be.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason is not None:
        raise UserError(f"cannot write {what} {folder}: {reason}; {advice}")


@contextlib.contextmanager
def replaced_file(path: str) -> Iterator[BinaryIO]:
    """A binary file to write, which takes its place, on the disk, when all is written.

    Until then, and when anything interrupts it, whatever is there stays as it is.

    Args:
        path: the file; its folder is made if needed.

    Raises:
        UserError: it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    # A file of the tempfile module would be readable by its owner alone, whatever the umask says.
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")  # see _TEMPORARY
    try:
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def remove_temporaries(folder: str) -> None:
    """Remove what killed processes left of files they wrote to a folder with `replaced_file`.

    Args:
        folder: exists; no other process writes to it now.
    """
    for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError):  # it is in nobody's way
            os.unlink(os.path.join(folder, name))


def write_json(path: str, content: Any) -> None:
    """Write JSON; the file appears whole or not at all.

    Args:
        path: the file; its folder is made if needed.
        content: mappings, lists, tuples, text, booleans, None and numbers, numpy's included; NaN
            and infinity are written as null, for JSON has neither.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    with replaced_file(path) as file:
        file.write(text.encode("utf-8"))


def _plain(value: Any) -> Any:
    """The same value in types that strict JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
