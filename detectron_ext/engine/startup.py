"""Process-wide start-up: logging, Caffe2's flags, threads."""

from __future__ import annotations

import logging
import os
import sys


def set_threads(threads: int) -> None:
    """Limit the threads of operators; 0 keeps one for each processor.

    Must run before Caffe2 is imported: its thread pools read the environment once.
    """
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def start_logging() -> None:
    """Send the package's messages to standard error, time first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("detectron_ext")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Caffe2 announces every call of its memory optimiser as a warning.
    logging.getLogger("memonger").setLevel(logging.ERROR)


def start_caffe2() -> None:
    """Initialise Caffe2; its errors reach Python as exceptions, so its own log is kept quiet."""
    from caffe2.python import workspace

    workspace.GlobalInit(["caffe2", "--caffe2_log_level=3"])
