"""Process-wide start-up: logging, Caffe2's flags, threads."""

from __future__ import annotations

import logging
import os
import sys


def set_threads(threads: int) -> None:
    """Set how many threads an operator may use on the CPU; 0 is one for each processor.

    Must run before Caffe2 is imported: thread pools read the environment once, and Caffe2 takes
    either number missing for one thread. OMP_NUM_THREADS (its first level) counts as asked for.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    given = threads or (int(asked) if asked.isdigit() else 0) or len(os.sched_getaffinity(0))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(given)
    # A waiting thread spins this often before it sleeps. Spinning for long, libgomp's habit, makes
    # a step twice as slow as soon as another process wants a processor: the thread waited for does
    # not get to run. Not spinning at all costs half as much again on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def start_logging() -> None:
    """Send the package's messages to standard error, time first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("detectron_ext")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Caffe2 announces every call of its memory optimiser, and sets its logger's level itself.
    memonger = logging.getLogger("memonger")
    memonger.addHandler(logging.NullHandler())
    memonger.propagate = False


def start_caffe2() -> None:
    """Initialise Caffe2; its errors reach Python as exceptions, so its own log is kept quiet."""
    from caffe2.python import workspace

    workspace.GlobalInit(["caffe2", "--caffe2_log_level=3"])
