"""Processes that keep processors busy while something is measured beside them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import Iterator

# A busy process ends when its parent has ended, however that was.
_PROGRAM = """
import os, sys
parent = int(sys.argv[1])
print("busy", flush=True)
while os.getppid() == parent:
    sum(range(100000))
"""
_SETTLE_SECONDS = 0.2


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep `number` processors busy inside the `with` block.

    The processes have a session of their own, as programs that are started in another terminal:
    Linux shares the processors between sessions first.
    """
    processes: list[subprocess.Popen] = []
    command = [sys.executable, "-S", "-E", "-c", _PROGRAM, str(os.getpid())]
    try:
        for _ in range(number):
            processes.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
            )
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has started
        time.sleep(_SETTLE_SECONDS if number else 0)
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
