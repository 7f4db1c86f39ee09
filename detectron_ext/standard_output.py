"""Standard output that cannot be written: a missing character, a closed pipe, a full disk."""

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
