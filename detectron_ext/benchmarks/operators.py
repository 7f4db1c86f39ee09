"""Times operators, forward and backward, against eager PyTorch in the same process."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
import torch
from caffe2.python import core, workspace

from detectron_ext.benchmarks.figures import Result, table_head, table_row, write_json
from detectron_ext.benchmarks.layer_cases import layer_cases
from detectron_ext.benchmarks.loss_cases import loss_cases
from detectron_ext.benchmarks.operator_case import OperatorCase
from detectron_ext.benchmarks.pyramid_cases import pyramid_cases
from detectron_ext.errors import UserError
from detectron_ext.ops import library

_MIN_SECONDS = 1.0  # of each side, for a median that a busy moment does not move
_MIN_RUNS = 9  # the same, where one run takes long
_MAX_RUNS = 50


def benchmark_operators(only=None, json_file: str | None = None) -> list[Result]:
    """Time every operator and print a table as it goes.

    Args:
        only: parts of names, in any case; the operators that have one in theirs are timed.
        json_file: where to write the results and what they were measured with.

    Raises:
        UserError: the native library is not built, no operator is meant, or the file cannot be
            written.
    """
    if not library.native_library_loaded():
        raise UserError("the native operators are not built: run make ops")
    if json_file:
        write_json(json_file, [])
    print(table_head())
    results: list[Result] = []
    for case in _cases(only):
        results.append(measure(case))
        print(table_row(results[-1]), flush=True)
    if not results:
        raise UserError(f"no operator has {' or '.join(only or [])} in its name")
    if json_file:
        write_json(json_file, results)
    return results


def _cases(only):
    """Yield the cases that are meant; inputs are made when their group is reached."""
    for make in (loss_cases, pyramid_cases, layer_cases):
        for case in make(np.random.default_rng(0)):
            if not only or any(part.lower() in case.name.lower() for part in only):
                yield case


def measure(case: OperatorCase) -> Result:
    """Time one case, both sides in turns, after checking that they agree."""
    native, eager = _Native(case), _Eager(case)
    extra = [_extra_memory(side, case) for side in (native, eager)]
    difference = _difference(native.results(), eager.results())
    forward = _alternate(native.forward, eager.forward)
    both = _alternate(native.both, eager.both) if case.differentiable else forward
    return Result(case.name, case.size, *forward, *both, native.bytes_moved(), difference, *extra)


class _Native:
    """The case as Caffe2 nets: forward, and forward with gradients."""

    def __init__(self, case: OperatorCase):
        workspace.ResetWorkspace()
        self._inputs = [core.BlobReference(name) for name in case.inputs]
        for name, value in case.inputs.items():
            workspace.FeedBlob(name, value)
        self._forward = core.Net("forward")
        outputs = case.add(self._forward)
        workspace.CreateNet(self._forward)
        self._both = core.Net("both")
        self._outputs = [str(blob) for blob in case.add(self._both)]
        self._gradients: list[str] = []
        if case.differentiable:
            self._add_gradients(case, outputs)
        workspace.CreateNet(self._both)

    def _add_gradients(self, case, outputs):
        workspace.RunNet(self._forward)
        seeds = {}
        for output in outputs:
            name = str(self._both.AddExternalInput(f"{output}_seed"))
            workspace.FeedBlob(name, _seed_like(workspace.FetchBlob(output)))
            seeds[output] = name
        gradients = self._both.AddGradientOperators(seeds)
        self._gradients = [str(gradients[name]) for name in case.differentiable]
        # What the forward pass left would not be seen by `_extra_memory`.
        for name in set(workspace.Blobs()) - {*case.inputs, *seeds.values()}:
            workspace.ResetBlob(name)

    def forward(self):
        workspace.RunNet(self._forward)

    def both(self):
        workspace.RunNet(self._both)

    def results(self):
        self.both()
        return [workspace.FetchBlob(name) for name in self._outputs + self._gradients]

    def bytes_moved(self) -> int:
        return sum(
            workspace.FetchBlob(name).nbytes
            for operator in self._both.Proto().op
            for name in {*operator.input, *operator.output}
        )


class _Eager:
    """The case as PyTorch operations, its inputs copied."""

    def __init__(self, case: OperatorCase):
        self._case = case
        self._tensors = {n: torch.from_numpy(v.copy()) for n, v in case.inputs.items()}
        with torch.no_grad():
            self._seeds = [
                torch.from_numpy(_seed_like(output.numpy()))
                for output in (case.eager(self._tensors) if case.differentiable else [])
            ]
        self.kept: list = []

    def forward(self):
        with torch.no_grad():
            self._case.eager(self._tensors)

    def both(self):
        sources = [self._tensors[name].requires_grad_(True) for name in self._case.differentiable]
        outputs = self._case.eager(self._tensors)
        gradients = torch.autograd.grad(outputs, sources, self._seeds) if sources else []
        self.kept = [*(output.detach() for output in outputs), *gradients]
        for source in sources:
            source.requires_grad_(False)

    def results(self):
        self.both()
        kept, self.kept = self.kept, []
        return [tensor.numpy() for tensor in kept]


def _seed_like(output: np.ndarray) -> np.ndarray:
    """A gradient for an output: 1 for a loss, else normal numbers, the same for both sides."""
    if output.ndim == 0:
        return np.ones((), np.float32)
    return np.random.default_rng(1).standard_normal(output.shape, dtype=np.float32)


def _difference(ours, theirs) -> float:
    """Largest relative difference; an in-place operator's results are not compared."""
    differences = [0.0]
    for mine, other in zip(ours, theirs):
        norm = float(np.linalg.norm(other.ravel())) or 1.0
        differences.append(float(np.linalg.norm((mine - other).ravel())) / norm)
    return max(differences)


def _alternate(ours, theirs) -> tuple[float, float]:
    """Median seconds of both, run in turns, so that a slow moment meets both."""
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


def _extra_memory(side, case: OperatorCase) -> int:
    """Peak resident memory of a first run, less what it returns: outputs and gradients."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    side.both()
    peak = _resident("VmHWM")
    returned = sum(array.nbytes for array in side.results())
    return max(0, peak - before - returned)


def _resident(field: str) -> int:
    """Bytes that Linux says this process holds (VmRSS) or has held at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")
