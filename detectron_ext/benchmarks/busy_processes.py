"""Processes that keep processors busy while something is measured beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Iterator

# Each process ends when its parent has ended, however that was: the first one of them started the
# others.
_PROGRAM = """
import os, sys
number, parent = map(int, sys.argv[1:])
for _ in range(number - 1):
    first = os.getpid()
    if os.fork() == 0:
        parent = first
        break
os.write(1, b".")
while os.getppid() == parent:
    sum(range(100000))
"""
_SETTLE_SECONDS = 0.2


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep `number` processors busy inside the `with` block.

    The processes share one session, as a program with so many processes that runs in another
    terminal: Linux shares the processors between sessions first.
    """
    if number == 0:
        yield
        return
    command = [sys.executable, "-S", "-E", "-c", _PROGRAM, str(number), str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.read(number)  # all have started
            time.sleep(_SETTLE_SECONDS)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
