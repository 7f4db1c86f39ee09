"""What a timed run reports, on either side."""

from __future__ import annotations

import resource
import statistics
from typing import Sequence


def summary(seconds: Sequence[float], size: int, version: str) -> dict:
    """Return the figures of `detectron_ext.benchmarks.training_step.benchmark_step`, and a version.

    Args:
        seconds: of each timed step.
        size: height and width of the images in pixels.
        version: of the program that ran the steps.
    """
    return {
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "size": size,
        "version": version,
    }
