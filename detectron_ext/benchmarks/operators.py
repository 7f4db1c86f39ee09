"""Times operators, forward and backward, against eager PyTorch in the same process."""

from __future__ import annotations

import time

import numpy as np

from detectron_ext.benchmarks.cases import operator_cases
from detectron_ext.benchmarks.extra_memory import measure_apart
from detectron_ext.benchmarks.figures import Result, table_head, table_row, write_json
from detectron_ext.benchmarks.operator_case import OperatorCase
from detectron_ext.benchmarks.sides import EagerSide, NativeSide
from detectron_ext.errors import UserError
from detectron_ext.ops import library

# Each side runs at least this long and this often, so that a busy moment does not move the median.
_MIN_SECONDS = 1.0
_MIN_RUNS = 9
_MAX_RUNS = 50


def benchmark_operators(only=None, json_file: str | None = None) -> list[Result]:
    """Time every operator and print a table as it goes.

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
        write_json(json_file, [])
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
    """Time both sides of one case in turns, and measure by how much they differ."""
    native, eager = NativeSide(case), EagerSide(case)
    difference = _difference(native.results(), eager.results())
    forward = _alternate(native.forward, eager.forward)
    both = _alternate(native.both, eager.both) if case.differentiable else forward
    return Result(
        case.name,
        case.size,
        *forward,
        *both,
        native.bytes_moved(),
        difference,
        extra_bytes,
        eager_extra_bytes,
    )


def _difference(ours, theirs) -> float:
    """Return the largest relative difference; an in-place operator has no results to compare."""
    differences = [0.0]
    for mine, other in zip(ours, theirs):
        norm = float(np.linalg.norm(other.ravel())) or 1.0
        differences.append(float(np.linalg.norm((mine - other).ravel())) / norm)
    return max(differences)


def _alternate(ours, theirs) -> tuple[float, float]:
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
