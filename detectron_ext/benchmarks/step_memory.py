"""Where the memory of a training step goes: sizes of blobs after each operator, by category."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from caffe2.python import workspace

from detectron_ext.engine.step_nets import StepNets

CATEGORIES = ("parameters and momenta", "inputs", "gradients of parameters", "maps and the rest")
_ROWS = 16


class Moment(NamedTuple):
    """The memory after an operator of the step.

    Attributes:
        number: the operator's place in the step, from 0.
        kind: its type.
        layer: its first output.
        bytes: size of the blobs that hold a value, one number for each of CATEGORIES.
    """

    number: int
    kind: str
    layer: str
    bytes: tuple[int, ...]

    @property
    def total(self) -> int:
        """The size of all blobs."""
        return sum(self.bytes)


class MemoryWatch:
    """Adds up the sizes of blobs while the operators of a step run one after the other.

    Args:
        nets: the nets of the step, created, with all parameters and inputs.
        baseline: bytes of the process before the model was made.
    """

    def __init__(self, nets: StepNets, baseline: int):
        self._nets, self._baseline = nets, baseline
        model = nets.model
        self._gradients = set(map(str, model.param_to_grad.values()))
        self._fixed = {blob for op in model.param_init_net.Proto().op for blob in op.output}
        self._sizes = {blob: size_of(blob) for blob in workspace.Blobs()}
        self._inputs = {blob for blob, size in self._sizes.items() if size} - self._fixed
        self.moments: list[Moment] = []

    def ran(self, operator: Any) -> None:
        """Record the sizes after an operator that has run; freed blobs count no more."""
        for blob in operator.output:
            self._sizes[blob] = size_of(blob)
        layer = operator.output[0] if operator.output else ""
        totals = [0] * len(CATEGORIES)
        for blob, size in self._sizes.items():
            totals[self._category(blob)] += size
        self.moments.append(Moment(len(self.moments), operator.type, layer, tuple(totals)))

    def _category(self, blob: str) -> int:
        if blob in self._fixed:
            return 0
        if blob in self._inputs:
            return 1
        return 2 if blob in self._gradients else 3

    def tables(self) -> str:
        """Return the memory over the step and that of the process, as tables in Markdown."""
        return f"{_over_step(self.moments)}\n\n{self._of_process()}"

    def _of_process(self) -> str:
        largest = max(self.moments, key=lambda moment: moment.total)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        minibatches = self._nets.model.config.DATA_LOADER.MINIBATCH_QUEUE_SIZE
        rows = [
            ("the process with Caffe2 and the operators, before the model", self._baseline),
            *zip((f"{category}, at the largest sum" for category in CATEGORIES), largest.bytes),
            (
                "working memory of operators, free memory that the process keeps",
                max(0, peak - self._baseline - largest.total),
            ),
            ("peak of the process", peak),
            (
                f"not here: a full queue of {minibatches} such minibatches, as in a training",
                minibatches * largest.bytes[1],
            ),
        ]
        lines = [f"| {what} | {size / 1e6:.0f} |" for what, size in rows]
        return "\n".join(["Memory of the process:\n", "| what | MB |", "| --- | ---: |", *lines])


def _over_step(moments: Sequence[Moment]) -> str:
    """Return the table of some operators: the one with the largest sum, and evenly spaced ones."""
    largest = max(moments, key=lambda moment: moment.total)
    last = len(moments) - 1
    numbers = {round(last * row / (_ROWS - 1)) for row in range(_ROWS)} | {largest.number}
    heads = " | ".join(CATEGORIES)
    lines = [
        "Memory over the step, MB of all blobs that hold a value after an operator:\n",
        f"| operator | type | first output | {heads} | sum |",
        "| ---: | --- | --- |" + " ---: |" * (len(CATEGORIES) + 1),
    ]
    for number in sorted(numbers):
        moment = moments[number]
        parts = " | ".join(f"{size / 1e6:.0f}" for size in moment.bytes)
        mark = " (largest)" if moment is largest else ""
        lines.append(
            f"| {number} | {moment.kind} | `{moment.layer}` | {parts} | "
            f"{moment.total / 1e6:.0f}{mark} |"
        )
    return "\n".join(lines)


def size_of(blob: str) -> int:
    """Return the bytes of a blob; 0 for one that holds no tensor, as after `Free`."""
    try:
        return int(workspace.GetBlobSizeBytes(blob))
    except RuntimeError:
        return 0


def current_memory() -> int:
    """Return the bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
