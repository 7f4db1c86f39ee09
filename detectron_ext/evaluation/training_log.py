"""The log of a training run (JSON lines), and the time and memory that the training took."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

from detectron_ext.errors import UserError
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_JSON_BYTES


class TrainingLog(NamedTuple):
    """A training log.

    Attributes:
        entries: {name: finite number} of each readable line, oldest first.
        num_damaged: number of lines that cannot be read; their numbers are missing.
    """

    entries: list
    num_damaged: int = 0


def read_training_log(path: str) -> TrainingLog:
    """Read a stats.jsonl. Numbers may be text, as in Detectron's json_stats.

    Values that are not numbers, such as eta, are left out.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open_input(path, MAX_JSON_BYTES) as file:
            read = [_entry(line.decode("utf-8", "replace")) for line in file]
    except OSError as error:
        raise UserError(f"cannot read training log {path}: {error.strerror}") from error
    entries = [entry for entry in read if entry is not None]
    return TrainingLog(entries, len(read) - len(entries))


def _entry(line: str) -> dict | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    numbers = {name: _finite_number(value) for name, value in content.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _finite_number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str) else value
        return number if math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def training_costs(log: TrainingLog) -> dict[str, float | None]:
    """Return the time and memory of a training, over all processes of a resumed run.

    Args:
        log: log of one training.

    Returns:
        A dictionary of numbers or None:

        - training_cpu_seconds: processor time of all threads.
        - training_seconds: wall time, which other work on the machine makes longer.
        - step_seconds: median wall time of a step, which pauses do not change.
        - peak_memory_mb: largest memory.

        The first two are None if an entry lacks them or a line is damaged, because the sum would
        not be complete.
    """
    steps, memory = (
        [entry[key] for entry in log.entries if key in entry] for key in ("time", "mem")
    )
    return {
        "training_cpu_seconds": _sum_of_all(log, "cpu_seconds"),
        "training_seconds": _sum_of_all(log, "seconds"),
        "step_seconds": float(np.median(steps)) if steps else None,
        "peak_memory_mb": float(max(memory)) if memory else None,
    }


def _sum_of_all(log: TrainingLog, key: str) -> float | None:
    if log.num_damaged or not log.entries or not all(key in entry for entry in log.entries):
        return None
    return float(sum(entry[key] for entry in log.entries))
