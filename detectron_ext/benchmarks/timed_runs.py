"""Times something that is run several times, and measures the peak memory of the process."""

from __future__ import annotations

import resource
import time
from typing import Callable

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
    seconds = []
    for _ in trange(_WARM_UP_RUNS + times, desc=what, disable=None):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    timed = seconds[_WARM_UP_RUNS:]
    return {
        "seconds": float(np.median(timed)),
        "seconds_min": min(timed),
        "seconds_max": max(timed),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
