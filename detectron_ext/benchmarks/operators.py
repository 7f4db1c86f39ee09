"""Times operators, forward and backward, against eager PyTorch in the same process."""

from __future__ import annotations

import os
import time
from typing import Callable, Sequence

import numpy as np

from detectron_ext.benchmarks.cases import operator_cases
from detectron_ext.benchmarks.extra_memory import measure_apart
from detectron_ext.benchmarks.figures import Result, table_head, table_row, write_json
from detectron_ext.benchmarks.operations import peak_operations
from detectron_ext.benchmarks.operator_case import OperatorCase
from detectron_ext.benchmarks.sides import EagerSide, NativeSide
from detectron_ext.errors import UserError
from detectron_ext.ops import library
from detectron_ext.output_files import check_writable_folder

# Each side runs for at least this long and at least this often. So a moment in which the machine is
# busy does not change the median.
_MIN_SECONDS = 1.0
_MIN_RUNS = 9
_MAX_RUNS = 50


def benchmark_operators(
    only: Sequence[str] | None = None, json_file: str | None = None
) -> list[Result]:
    """Time every operator and print each row of the table when it is measured.

    Args:
        only: parts of operators' names, in upper or lower case; None or empty for all operators.
        json_file: where to write the results, with the versions and the machine.

    Returns:
        The results, in the table's order.

    Raises:
        UserError: the native library is not built, no operator's name has one of the parts, or the
            file cannot be written.
    """
    if not library.native_library_loaded():
        raise UserError("the native operators are not built: run make ops")
    if json_file:
        folder = os.path.dirname(os.path.abspath(json_file))
        check_writable_folder(folder, "figures to folder", "name another file with --json")
    extra_memory = measure_apart(only)
    if not extra_memory:
        raise UserError(f"no operator has {' or '.join(only or [])} in its name")
    print(table_head())
    results: list[Result] = []
    for case, extra in zip(operator_cases(only), extra_memory):
        results.append(measure(case, *extra))
        print(table_row(results[-1]), flush=True)
    if json_file:
        write_json(json_file, results)
    return results


def measure(case: OperatorCase, extra_bytes: int, eager_extra_bytes: int) -> Result:
    """Time both sides of a case in turns, and compare their results.

    Args:
        case: what to measure.
        extra_bytes: the case's entry of `measure_apart`: the native side's memory.
        eager_extra_bytes: the same for PyTorch.
    """
    native, eager = NativeSide(case), EagerSide(case)
    difference = _difference(native.results(), eager.results())
    operations = native.operations()
    # The speed of a processor changes with its load and heat, so the peak belongs to the case.
    peaks = [peak_operations() if operations else 0.0]
    forward = _alternate(native.forward, eager.forward)
    both = _alternate(native.both, eager.both) if case.differentiable else forward
    peaks.append(peak_operations() if operations else 0.0)
    return Result(
        case.name,
        case.size,
        *forward,
        *both,
        native.bytes_moved(),
        difference,
        extra_bytes,
        eager_extra_bytes,
        operations,
        max(peaks),
    )


def _difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """Return the largest relative difference, NaN if a result holds a NaN.

    It is 0 for an operator without outputs to compare, which works in place.
    """
    differences = [0.0]
    for mine, other in zip(ours, theirs):
        norm = float(np.linalg.norm(other.ravel())) or 1.0
        differences.append(float(np.linalg.norm((mine - other).ravel())) / norm)
    return float(np.max(differences))  # unlike max, it does not overlook a NaN


def _alternate(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float]:
    """Return the median seconds of both sides, run in turns so that a slow moment affects both."""
    seconds: tuple[list, list] = ([], [])
    for run in (ours, theirs):
        run()
    while len(seconds[0]) < _MIN_RUNS or (
        min(map(sum, seconds)) < _MIN_SECONDS and len(seconds[0]) < _MAX_RUNS
    ):
        for run, taken in zip((ours, theirs), seconds):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))
