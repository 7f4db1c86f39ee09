"""Fuzzing of the native operators: shapes, types, values and arguments that do not fit.

    PYTHONPATH=. .venv/bin/python tests/ops/fuzz_operators.py --random 10000 --seed 1
    tools/fuzz_ops.sh FOLDER -max_total_time=1200    # guided by coverage, with sanitizers

Each input either makes the operator fail with an error that names it, or gives outputs of the
shapes of the float64 definition. `run_case` raises ``Fault`` for anything else; a crash ends the
process, and --last has its input.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from caffe2.python import core, workspace
from operator_fuzz_cases import FuzzCase, changed_arrays, make_case, operators

from detectron_ext import ops
from detectron_ext.ops.table import OPERATORS

_MOST_BYTES = 200
# What Caffe2 itself checks, without the operator's name.
_OF_CAFFE2 = ("proto_utils.cc", "conv_pool_op_base.h")
_MOST_FED = 1 << 24  # elements of the gradient of an output
_COMPARED = 1 << 20  # elements of outputs that the definition is asked about


class Fault(AssertionError):
    """An operator did neither refuse a case nor give outputs of the right shapes."""


def run_case(case: FuzzCase) -> str:
    """Run a case and return "refused", or how its outputs were compared.

    Raises:
        Fault: see there.
    """
    workspace.ResetWorkspace()
    names = [f"input{i}" for i in range(len(case.inputs))]
    for name, array in zip(names, case.inputs):
        workspace.FeedBlob(name, array)
    outputs = case.outputs
    results = [f"output{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    definition = core.CreateOperator(case.operator, names, results, **_allowed(case.arguments))
    if not _runs(definition, case):
        return "refused"
    shapes = [_shape_of(name) for name in results]
    outcome = _compare(case, shapes)
    gradients = _gradient_definitions(definition, results, shapes)
    if case.of_gradient is not None and gradients:
        wanted = sorted({name for one in gradients for name in one.input})
        arrays = [workspace.FetchBlob(name) for name in wanted]
        for name, array in zip(wanted, changed_arrays(arrays, case.of_gradient)):
            workspace.FeedBlob(name, array)
        return _all_run(gradients, case, "gradient refused", "gradient ran")
    _all_run(gradients, case, "", "")
    return outcome


def _shape_of(blob: str) -> tuple:
    """Return the shape of a blob. It is not fetched: numpy takes memory also for an empty one."""
    workspace.RunOperatorOnce(core.CreateOperator("Shape", blob, "shape"))
    return tuple(workspace.FetchBlob("shape").tolist())


def _allowed(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a definition can hold."""
    return {name: value for name, value in arguments.items() if value is not None}


def _all_run(definitions: list, case: FuzzCase, refused: str, ran: str) -> str:
    for definition in definitions:
        if not _runs(definition, case):
            return refused
    return ran


def _runs(definition: Any, case: FuzzCase) -> bool:
    """Run an operator and return whether it did not refuse its inputs."""
    try:
        workspace.RunOperatorOnce(definition)
    except MemoryError:
        return False
    except RuntimeError as error:
        text = str(error)
        # Caffe2 reads an argument before the operator exists; its message names the argument.
        of_caffe2 = any(f"fail at {name}" in text for name in _OF_CAFFE2)
        if not of_caffe2 and definition.type not in text and case.operator not in text:
            raise Fault(f"{definition.type} is not named: {text}") from error
        return False
    except Exception as error:
        raise Fault(f"{_described(case)} raises {type(error).__name__}: {error}") from error
    return True


def _memory(shape: tuple) -> int:
    """Return the number of elements that numpy takes memory for: it leaves out sides of 0."""
    return int(np.prod([side for side in shape if side], dtype=np.float64))


def _compare(case: FuzzCase, found: list) -> str:
    """Compare the shapes of outputs with those of the definition, if that takes the inputs."""
    if not case.in_table or sum(map(_memory, found)) > _COMPARED:
        return "ran"
    try:
        with np.errstate(all="ignore"):
            expected = OPERATORS[case.operator].reference(case.inputs, **case.arguments)
    except Exception:
        return "ran"  # the definition checks nothing
    shapes = [np.shape(array) for array in expected]
    if shapes != found[: len(shapes)]:
        raise Fault(f"{_described(case)} gives {found}, not {shapes}")
    return "compared"


def _described(case: FuzzCase) -> str:
    inputs = ", ".join(f"{array.dtype}{list(array.shape)}" for array in case.inputs)
    return f"{case.operator}({inputs}; {case.arguments})"


def _gradient_definitions(definition: Any, results: list, shapes: list) -> list:
    """Return the operators of the gradient of the first outputs; [] if there is none."""
    name = definition.type
    last = len(results)
    if name in OPERATORS:
        last = len(range(last)[OPERATORS[name].differentiable_outputs])
    if name in ("NonLocalBlock", "RoIPoolF", "PSRoIPool", "GroupNorm", "SoftmaxFocalLoss"):
        last = 1
    seeds = [f"d_output{i}" for i in range(last)]
    for seed, shape in zip(seeds, shapes):
        if _memory(shape) > _MOST_FED:
            return []
        workspace.FeedBlob(seed, np.ones(shape, np.float32))
    try:
        made, _ = core.GradientRegistry.GetGradientForOp(
            definition, seeds + [None] * (len(results) - last)
        )
    except Exception:  # it has no gradient
        return []
    return list(made)


def run_bytes(content: bytes) -> tuple[str, str]:
    """Run the case of some bytes and return its operator and what happened."""
    case = make_case(content)
    return case.operator, run_case(case)


class Counts:
    """Counts executions by operator, in memory and from time to time in a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._table: dict[str, collections.Counter] = {}
        if self._path and os.path.exists(self._path):
            stored = json.loads(Path(self._path).read_text())
            self._table = {name: collections.Counter(found) for name, found in stored.items()}
        self._since = 0

    def add(self, operator: str, outcome: str) -> None:
        self._table.setdefault(operator, collections.Counter())[outcome] += 1
        self._since += 1
        if self._since >= 500:
            self.write()

    def write(self) -> None:
        self._since = 0
        if self._path:
            Path(self._path).write_text(json.dumps(self._table, indent=1))

    def show(self) -> None:
        for operator, outcomes in sorted(self._table.items()):
            print(f"{operator:30s} {sum(outcomes.values()):7d}  {dict(sorted(outcomes.items()))}")


def _one_input(counts: Counts, last: str):
    def run(content: bytes) -> None:
        if last:
            Path(last).write_bytes(content)
        counts.add(*run_bytes(content))

    return run


def _run_random(options: argparse.Namespace) -> None:
    counts = Counts(options.counts)
    run, draws = _one_input(counts, options.last), random.Random(options.seed)
    for _ in range(options.random):
        content = bytes(draws.randrange(256) for _ in range(draws.randrange(_MOST_BYTES)))
        try:
            run(content)
        except Fault as fault:
            print(f"{content.hex()}: {fault}")
    counts.write()
    counts.show()


def _run_guided(options: argparse.Namespace, others: list) -> None:
    import atheris
    import atheris.core_with_libfuzzer as core_library

    run = _one_input(Counts(options.counts), options.last)
    atheris.Setup([sys.argv[0], *others], run)
    if options.coverage:
        register = ctypes.CDLL(options.coverage).register_counters
        if register(core_library.__file__.encode()):
            raise RuntimeError(f"{core_library.__file__} has no counters")
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, help="run so many random inputs, without coverage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--last", default="", help="file for the input that runs")
    parser.add_argument("--counts", default="", help="file for the numbers of executions")
    parser.add_argument("--coverage", default="", help="fuzz_coverage.c, compiled")
    options, others = parser.parse_known_args()
    if not ops.native_library_loaded():
        parser.error("the native operators are not built (make ops)")
    assert len(operators()) > 20
    if options.random is not None:
        _run_random(options)
    else:
        _run_guided(options, others)


if __name__ == "__main__":
    main()
