#!/usr/bin/env python
"""Trains and tests in one process for a long time, and calls a detector often, to find leaks.

    OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python tests/soak.py training --minutes 120
    OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python tests/soak.py detector --calls 1000

It prints the resident memory as it goes. It ends with 1 if the memory grew by 2 % or more: that of
training after the first twelfth of the time (at least 12 cycles), that of the detector after the
first call of every size. The test suite does not run it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Sequence

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from squares import write_tiny_config

from detectron_ext import config as configuration
from detectron_ext.commands.train_and_test import train_and_test
from detectron_ext.engine.detector import Detector
from detectron_ext.engine.train import train

LIMIT = 0.02


def resident() -> int:
    """Return the resident memory of this process without pages of files, in bytes.

    The system takes the pages of libraries away and brings them back as it likes.
    """
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["RssAnon"].split()[0]) * 1024


def growth(samples: Sequence[int], first: int) -> float:
    """Return the relative growth from the median of the samples at `first` to that of the end.

    A tenth of the samples after the first ones counts at either end, at least one sample.

    Args:
        samples: resident memory in bytes, in the order of time.
        first: how many samples at the beginning are left out.
    """
    later = samples[first:]
    tenth = max(1, len(later) // 10)
    start, end = np.median(later[:tenth]), np.median(later[-tenth:])
    return float(end / start - 1)


def cycle(folder: Path, number: int) -> None:
    """Train and test a tiny RetinaNet, with Libra's parts in every second cycle."""
    parts = ["LIBRA.BFP.ON", "True", "LIBRA.BALANCED_L1.ON", "True"] if number % 2 else []
    with tempfile.TemporaryDirectory(dir=folder) as output:
        settings = [*parts, "OUTPUT_DIR", output, "RNG_SEED", str(number + 1)]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            train_and_test(configuration.load(str(folder / "tiny.yaml"), settings))


def soak_training(minutes: float, folder: Path) -> float:
    """Repeat `cycle` for some minutes and return the growth of the memory."""
    samples, start = [], time.monotonic()
    warm_up, shown = 0, 0.0
    while True:
        cycle(folder, len(samples))
        samples.append(resident())
        elapsed = (time.monotonic() - start) / 60
        if elapsed < max(minutes / 12, 1e-9) or len(samples) < 12:
            warm_up = len(samples)
        if elapsed - shown >= minutes / 24 or elapsed >= minutes:
            shown = elapsed
            print(
                f"{elapsed:6.1f} min, {len(samples)} cycles, {samples[-1] / 1e6:.1f} MB", flush=True
            )
        if elapsed >= minutes and len(samples) > warm_up + 1:
            return growth(samples, warm_up)


def soak_detector(
    detect: Callable[[np.ndarray], np.ndarray], calls: int, num_sizes: int = 300
) -> float:
    """Call a detector on images of many sizes and return the growth of the memory.

    Args:
        detect: takes an image (height, width, 3) uint8.
        calls: number of calls.
        num_sizes: number of sizes, from 40 to 400 pixels a side. Every size comes again after as
            many calls, so the samples begin when all of them were seen.
    """
    rng = np.random.RandomState(0)
    sizes = rng.randint(40, 401, (num_sizes, 2))
    samples = []
    for number in range(calls):
        height, width = sizes[number % num_sizes]
        detect(rng.randint(0, 256, (height, width, 3), dtype=np.uint8))
        if (number + 1) % 20 == 0:
            samples.append(resident())
        if (number + 1) % 100 == 0:
            print(f"{number + 1} calls, {samples[-1] / 1e6:.1f} MB", flush=True)
    return growth(samples, min(num_sizes // 20, len(samples) - 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("training", "detector"))
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_config(folder)
        if options.what == "training":
            grown = soak_training(options.minutes, folder)
        else:
            config = configuration.load(str(folder / "tiny.yaml"), ["OUTPUT_DIR", name])
            grown = soak_detector(Detector(config, train(config)), options.calls)
    print(f"the memory grew by {grown:.2%}")
    sys.exit(grown >= LIMIT)


if __name__ == "__main__":
    main()
