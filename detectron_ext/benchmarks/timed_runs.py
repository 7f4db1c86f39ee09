"""Times something that is run several times, and measures the peak memory of the process."""

from __future__ import annotations

import resource
import time
from typing import Callable, Sequence

import numpy as np
from tqdm import trange

_WARM_UP_RUNS = 3


def timed_runs(run: Callable[[], None], times: int, what: str) -> dict[str, float]:
    """Run something, a few times untimed and then timed.

    Args:
        run: one run.
        times: number of timed runs.
        what: what the progress bar counts.

    Returns:
        A dictionary: seconds (median over the runs), seconds_min, seconds_max and peak_memory_gb
        (peak of the process, in 10^9 bytes).
    """
    return summary_of(seconds_of(run, times, what))


def seconds_of(
    run: Callable[[], None], times: int, what: str, warm_up: int = _WARM_UP_RUNS
) -> list[float]:
    """Run something `warm_up` times and then `times` times; return the seconds of the latter."""
    seconds = []
    for _ in trange(warm_up + times, desc=what, disable=None):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds[warm_up:]


def summary_of(seconds: Sequence[float]) -> dict[str, float]:
    """Return the dictionary of `timed_runs` for times that were measured in this process."""
    return {
        "seconds": float(np.median(seconds)),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
