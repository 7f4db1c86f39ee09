"""Measures the cases and writes the table."""

from __future__ import annotations

import gc
from typing import Any, Callable, Iterable

import torch

from detectron_ext.kernel_benchmark import measure
from detectron_ext.kernel_benchmark.cases import CASES, Case, Maker, Tensors

TOLERANCE = 1e-5
_PASSES = ("forward", "backward")


def measured(make: Maker, names: Iterable[str], clock: measure.Clock) -> dict[str, Any]:
    """Check and time the named cases.

    Args:
        make: makes the inputs of the cases.
        names: keys of CASES.
        clock: times the cases.

    Returns:
        A dictionary: copy_gb_per_s (bandwidth of a device-to-device copy, 10^9 bytes per second),
        rows (a dictionary for each pass of each case) and skipped (a sentence for each thing that
        could not be measured).
    """
    copy = clock.copy_bandwidth()
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for name in names:
        case = CASES[name](make)
        rows += _rows(case, clock, copy, skipped)
        del case
        gc.collect()
    return {"copy_gb_per_s": copy / 1e9, "rows": rows, "skipped": skipped}


def failures(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the passes whose error is above TOLERANCE or whose bits change from run to run."""
    failed = []
    for row in rows:
        error = row["error"]
        # A comparison with NaN is false, so the negated comparison makes a NaN fail.
        if not row["same_bits"] or (error is not None and not error <= TOLERANCE):
            failed.append(f"{row['kernel']} {row['pass']}")
    return failed


def _rows(
    case: Case, clock: measure.Clock, copy: float, skipped: list[str]
) -> list[dict[str, Any]]:
    same_bits = measure.run_twice(case)
    errors = _errors(case, skipped)
    ours = measure.time_ours(case, clock)
    eager = _baseline(f"{case.name}: eager", case, case.formula, clock, skipped)
    compiled = _baseline(f"{case.name}: torch.compile", case, _compiled(case), clock, skipped)
    rows = []
    for i, (size, flops) in enumerate(
        [(case.forward_bytes, case.forward_flops), (case.backward_bytes, case.backward_flops)]
    ):
        rows.append(
            {
                "kernel": case.name,
                "pass": _PASSES[i],
                "shape": case.shape,
                "error": errors[i],
                "same_bits": same_bits,
                "microseconds": ours[i] * 1e6,
                "bytes": size,
                "gb_per_s": size / ours[i] / 1e9,
                "share_of_copy": size / ours[i] / copy,
                "tflops": flops / ours[i] / 1e12 if flops else None,
                "eager_microseconds": eager[i] and eager[i] * 1e6,
                "ratio_to_eager": eager[i] and eager[i] / ours[i],
                "compiled_microseconds": compiled[i] and compiled[i] * 1e6,
                "ratio_to_compiled": compiled[i] and compiled[i] / ours[i],
            }
        )
    return rows


def _errors(case: Case, skipped: list[str]) -> list:
    try:
        outputs, gradients = measure.expected(case)
        return [
            measure.relative_error(case.outputs, outputs),
            measure.relative_error(case.gradients, gradients),
        ]
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        skipped.append(f"{case.name}: not compared with float64: {_first_line(error)}")
        return [None, None]


def _baseline(
    what: str,
    case: Case,
    formula: Callable[..., Tensors] | None,
    clock: measure.Clock,
    skipped: list[str],
) -> list:
    """Return the seconds of both passes of a formula, or [None, None] if it cannot be timed.

    Args:
        what: names the formula in the list of what was skipped.
        case: the case that the formula belongs to.
        formula: the formula, or None if this PyTorch does not have it.
        clock: times the passes.
        skipped: gets a sentence with the reason if the formula cannot be timed.
    """
    if formula is None:
        skipped.append(f"{what}: torch {torch.__version__} has none")
        return [None, None]
    try:
        return measure.time_formula(case, formula, clock)
    except Exception as error:  # the compiler's failures have no common type
        skipped.append(f"{what}: {type(error).__name__}: {_first_line(error)}")
        return [None, None]


def _compiled(case: Case) -> Callable[..., Tensors] | None:
    if not hasattr(torch, "compile"):
        return None
    return torch.compile(case.formula, dynamic=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def table(result: dict[str, Any]) -> str:
    """Return a result as text: that of `measured`, with the keys device, torch and nvcc added."""
    lines = [
        f"{result['device']}, torch {result['torch']}, {result['nvcc']}; device-to-device copy "
        f"{result['copy_gb_per_s']:.0f} GB/s (read and written)",
        f"{'kernel':24}{'pass':9}{'error':>9}{'us':>10}{'GB/s':>8}{'of copy':>9}{'TFLOP/s':>9}"
        f"{'eager':>8}{'compile':>9}  shape",
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['kernel']:24}{row['pass']:9}{_cell(row['error'], 9, '.1e')}"
            f"{_cell(row['microseconds'], 10, '.1f')}{_cell(row['gb_per_s'], 8, '.0f')}"
            f"{_cell(row['share_of_copy'], 9, '.0%')}{_cell(row['tflops'], 9, '.1f')}"
            f"{_cell(row['ratio_to_eager'], 7, '.2f')}x{_cell(row['ratio_to_compiled'], 8, '.2f')}x"
            f"  {row['shape']}{'' if row['same_bits'] else '  BITS DIFFER FROM RUN TO RUN'}"
        )
    return "\n".join([*lines, *result["skipped"]])


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"
