"""Measures how much memory our side and PyTorch's side of a case need, in a separate process.

In that process, freed blocks return to the system at once. In the process of the benchmark they
would stay in the heap. Memory of earlier cases would then be counted, or hide what a case needs.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron_ext.benchmarks.cases import operator_cases
from detectron_ext.benchmarks.sides import EagerSide, NativeSide
from detectron_ext.engine.startup import start_caffe2


def measure_apart(only: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Return, for each case, the extra bytes of our side and of PyTorch's.

    Extra bytes are the peak memory of one run, forward and backward, without the inputs, the
    outputs and the gradients of the inputs.

    Args:
        only: parts of names, as for `operator_cases`.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    command = [sys.executable, "-m", __name__, *(only or [])]
    child = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    return [tuple(pair) for pair in json.loads(child.stdout.splitlines()[-1])]


def _measure(only: Sequence[str]) -> list[list[int]]:
    return [
        [_extra_bytes(side(case)) for side in (NativeSide, EagerSide)]
        for case in operator_cases(only)
    ]


def _extra_bytes(side: NativeSide | EagerSide) -> int:
    """Return the peak resident memory of a first run without its outputs and gradients."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident("VmRSS")
    side.both()
    peak = _resident("VmHWM")
    returned = sum(array.nbytes for array in side.results())
    return max(0, peak - before - returned)


def _resident(field: str) -> int:
    """Return the bytes that this process holds (VmRSS) or has held at its peak (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    start_caffe2()
    print(json.dumps(_measure(sys.argv[1:])))
