"""Start-up of a process: logging, Caffe2's flags, number of threads."""

from __future__ import annotations

import logging
import os
import sys

from detectron_ext.environment import GOMP_SPINCOUNT, MKL_NUM_THREADS, OMP_NUM_THREADS


class _Threads:
    """How many threads this process was started with, and whether a person has fixed the number."""

    count = 1
    fixed = True


def free_threads() -> int:
    """Return the number of threads of this process if it may change, and 0 if it is fixed.

    It is fixed if LIBRA.THREADS or OMP_NUM_THREADS set it, and in programs that use the package
    without `set_threads`.
    """
    return 0 if _Threads.fixed else _Threads.count


def set_threads(threads: int) -> None:
    """Set the number of CPU threads of an operator.

    Call this before Caffe2 is imported: its thread pools read the environment once, and use one
    thread if OMP_NUM_THREADS or MKL_NUM_THREADS is missing.

    Args:
        threads: number of threads. 0 uses the first number in OMP_NUM_THREADS or, without it, one
            thread for each processor.
    """
    asked = OMP_NUM_THREADS.value.split(",")[0].strip()
    given = threads or (int(asked) if asked.isdecimal() else 0) or len(os.sched_getaffinity(0))
    _Threads.count, _Threads.fixed = given, bool(threads or asked)
    for variable in (OMP_NUM_THREADS, MKL_NUM_THREADS):
        os.environ[variable.name] = str(given)
    # A waiting thread looks for work this many times before it sleeps. With libgomp's default it
    # keeps its processor for long. If another process needs a processor, too, the thread that the
    # others wait for does not run, and a training step takes twice as long. If threads slept at
    # once, a step would take 1.5 times as long on an idle machine.
    os.environ.setdefault(GOMP_SPINCOUNT.name, "1000")


class _OfProcess(logging.Formatter):
    """Begins each message with the process, and a warning with this word, for `commands.launch`."""

    def __init__(self, process: int):
        super().__init__(f"%(asctime)s process {process}: %(kind)s%(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.kind = "warning: " if record.levelno >= logging.WARNING else ""
        return super().format(record)


def start_logging(process: int = 0) -> None:
    """Send the package's log messages to standard error, each with the time.

    Args:
        process: number of this process of a run. The messages of all but the first tell it.
    """
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handler.setFormatter(_OfProcess(process) if process else plain)
    logger = logging.getLogger("detectron_ext")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Caffe2 logs every call of its memory optimiser, and sets the level of that logger itself.
    memonger = logging.getLogger("memonger")
    memonger.addHandler(logging.NullHandler())
    memonger.propagate = False


def start_caffe2() -> None:
    """Initialise Caffe2 without its own log: its errors reach Python as exceptions."""
    from caffe2.python import workspace

    workspace.GlobalInit(["caffe2", "--caffe2_log_level=3"])
