"""Standard streams that cannot be written: a missing character, a closed pipe, a full disk."""

from __future__ import annotations

import io
import os
import sys


def print_any_text() -> None:
    """From now on, print "?" for characters that the encoding of standard output does not have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard_output() -> None:
    """Discard what is printed from now on, and what is still in the buffer.

    Without this, Python would try to write the buffer when it exits, and print an error.
    """
    if sys.stdout:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def open_missing_streams() -> None:
    """Open /dev/null in place of the standard streams that the process was started without.

    Otherwise the next file that is opened gets the number of a closed stream, and what a library
    prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


class _Forgiving(io.TextIOWrapper):
    """Standard error that goes nowhere from the first error on."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())


def survive_lost_errors() -> None:
    """From now on, go on without messages if standard error cannot be written any more.

    A long run must not end because the terminal or the reader of its messages has gone.
    """
    if type(sys.stderr) is io.TextIOWrapper:
        encoding = sys.stderr.encoding
        sys.stderr = _Forgiving(
            sys.stderr.detach(), encoding=encoding, errors="backslashreplace", line_buffering=True
        )
