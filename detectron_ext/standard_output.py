"""Standard output, which can go away under a program: a closed pipe, a full disk."""

from __future__ import annotations

import io
import os
import sys


def print_any_text() -> None:
    """From now on print "?" for a character that the encoding of standard output lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard_output() -> None:
    """From now on print to nowhere, what could not be written before included.

    Python itself would try to write that again, and complain, as it ends.
    """
    if sys.stdout:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
