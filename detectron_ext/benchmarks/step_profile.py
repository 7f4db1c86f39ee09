"""Measures each operator of a training step: time, operations, bytes, memory after it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import workspace

from detectron_ext.benchmarks.operations import operations_of
from detectron_ext.benchmarks.step_memory import MemoryWatch, current_memory, size_of
from detectron_ext.benchmarks.training_step import ready_nets
from detectron_ext.config import Config
from detectron_ext.engine.step_nets import StepNets

_WARM_UP_STEPS = 2
_SLOWEST = 20


class OperatorTime(NamedTuple):
    """One operator of the net.

    Attributes:
        kind: the operator's type, such as "Conv".
        layer: its first output.
        calls: 1; the number of operators in a sum of several.
        seconds: time of a run, the mean over the steps.
        gflop: 10^9 multiplications and additions of convolutions and fully connected layers, as
            many as the direct sums need; 0 for other operators.
        gigabytes: size of its inputs and outputs in 10^9 bytes; each blob counts once.
    """

    kind: str
    layer: str
    calls: int
    seconds: float
    gflop: float
    gigabytes: float


def profile_step(
    config: Config, size: int, batch: int, steps: int
) -> tuple[list[OperatorTime], MemoryWatch]:
    """Time every operator of a training step, and measure its blobs.

    Args:
        config, size, batch: as of `training_step.benchmark_step`.
        steps: timed steps, after a few that are not timed.

    Returns:
        The operators in the order of the step, and the memory after each of them.
    """
    baseline = current_memory()
    nets, _ = ready_nets(config, size, batch)
    memory = MemoryWatch(nets, baseline)
    net = _whole(nets)
    # One step operator by operator, because a blob may take another's place later in the step.
    work = [_work(operator, memory) for operator in net.op]
    with _without_output():  # Caffe2 prints a line for each operator
        times = workspace.BenchmarkNet(net.name, _WARM_UP_STEPS, steps, True)[1:]
    return [
        OperatorTime(operator.type, operator.output[0] if operator.output else "", 1, ms / 1e3, *w)
        for operator, ms, w in zip(net.op, times, work)
    ], memory


def _whole(nets: StepNets) -> Any:
    """Create and return one net of both: a net is timed several times, which needs a whole step."""
    net = caffe2_pb2.NetDef()
    net.CopyFrom(nets.gradients)
    net.name += "_and_update"
    net.op.extend(nets.update.op)
    workspace.CreateNet(net, overwrite=True)
    return net


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Drop what C++ code writes to the standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _work(operator: Any, memory: MemoryWatch) -> tuple[float, float]:
    """Run an operator and return its work in 10^9 operations, and its blobs' size in 10^9 bytes."""
    workspace.RunOperatorOnce(operator)
    memory.ran(operator)
    gigabytes = sum(map(size_of, {*operator.input, *operator.output})) / 1e9
    return operations_of(operator) / 1e9, gigabytes


def tables(operators: Sequence[OperatorTime]) -> str:
    """Return two tables in Markdown: the types of operators, and the slowest operators."""
    total = sum(operator.seconds for operator in operators)
    kinds: dict[str, list[OperatorTime]] = defaultdict(list)
    for operator in operators:
        kinds[operator.kind].append(operator)
    sums = sorted((_sum(kind, of) for kind, of in kinds.items()), key=_seconds, reverse=True)
    slowest = sorted(operators, key=_seconds, reverse=True)[:_SLOWEST]
    return (
        f"{total:.3f} s in {len(operators)} operators\n\n"
        + _table("calls", sums, total, lambda o: str(o.calls))
        + f"\n\nThe {len(slowest)} slowest operators:\n\n"
        + _table("first output", slowest, total, lambda o: f"`{o.layer}`")
    )


def _seconds(operator: OperatorTime) -> float:
    return operator.seconds


def _sum(kind: str, operators: Iterable[OperatorTime]) -> OperatorTime:
    columns = np.array([o[2:] for o in operators]).sum(axis=0)
    return OperatorTime(kind, "", int(columns[0]), *map(float, columns[1:]))


def _table(heading: str, rows: Sequence[OperatorTime], total: float, second: Any) -> str:
    lines = [
        f"| operator | {heading} | ms | share | GFLOP/s | GB/s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        rate = f"{row.gflop / row.seconds:.0f}" if row.gflop and row.seconds else ""
        bandwidth = f"{row.gigabytes / row.seconds:.1f}" if row.seconds else ""
        share = row.seconds / total if total else 0.0
        lines.append(
            f"| {row.kind} | {second(row)} | {row.seconds * 1e3:.2f} | {share:.1%} | {rate} | "
            f"{bandwidth} |"
        )
    return "\n".join(lines)
