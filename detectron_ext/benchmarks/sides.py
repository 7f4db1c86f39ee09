"""The two sides of a case: native Caffe2 operators, and eager PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from caffe2.python import core, workspace

from detectron_ext.benchmarks.operations import operations_of
from detectron_ext.benchmarks.operator_case import OperatorCase


class NativeSide:
    """The case as Caffe2 nets: forward, and forward with gradients."""

    def __init__(self, case: OperatorCase) -> None:
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

    def _add_gradients(self, case: OperatorCase, outputs: list) -> None:
        workspace.RunNet(self._forward)
        seeds = {}
        for output in outputs:
            name = str(self._both.AddExternalInput(f"{output}_seed"))
            workspace.FeedBlob(name, _seed_like(workspace.FetchBlob(output)))
            seeds[output] = name
        gradients = self._both.AddGradientOperators(seeds)
        self._gradients = [str(gradients[name]) for name in case.differentiable]
        # Free what the forward pass allocated, so that extra_memory.py can measure it.
        for name in set(workspace.Blobs()) - {*case.inputs, *seeds.values()}:
            workspace.ResetBlob(name)

    def forward(self) -> None:
        """Run the forward pass."""
        workspace.RunNet(self._forward)

    def both(self) -> None:
        """Run the forward and the backward pass."""
        workspace.RunNet(self._both)

    def results(self) -> list[np.ndarray]:
        """Run both passes; return the outputs and the gradients of the differentiable inputs."""
        self.both()
        return [workspace.FetchBlob(name) for name in self._outputs + self._gradients]

    def bytes_moved(self) -> int:
        """Return the sum of the sizes of all operators' inputs and outputs, in bytes."""
        return sum(
            workspace.FetchBlob(name).nbytes
            for operator in self._both.Proto().op
            for name in {*operator.input, *operator.output}
        )

    def operations(self) -> float:
        """Return the multiplications and additions of both passes, as of `operations_of`."""
        return sum(map(operations_of, self._both.Proto().op))


class EagerSide:
    """The case as PyTorch operations on copies of its inputs."""

    def __init__(self, case: OperatorCase) -> None:
        self._case = case
        self._tensors = {n: torch.from_numpy(v.copy()) for n, v in case.inputs.items()}
        with torch.no_grad():
            self._seeds = [
                torch.from_numpy(_seed_like(output.numpy()))
                for output in (case.eager(self._tensors) if case.differentiable else [])
            ]
        self.kept: list = []

    def forward(self) -> None:
        """Run the forward pass, without recording anything for gradients."""
        with torch.no_grad():
            self._case.eager(self._tensors)

    def both(self) -> None:
        """Run the forward and the backward pass; keep their results."""
        sources = [self._tensors[name].requires_grad_(True) for name in self._case.differentiable]
        outputs = self._case.eager(self._tensors)
        gradients = torch.autograd.grad(outputs, sources, self._seeds) if sources else []
        self.kept = [*(output.detach() for output in outputs), *gradients]
        for source in sources:
            source.requires_grad_(False)

    def results(self) -> list[np.ndarray]:
        """Run both passes; return the outputs and the gradients of the differentiable inputs."""
        self.both()
        kept, self.kept = self.kept, []
        return [tensor.numpy() for tensor in kept]


def _seed_like(output: np.ndarray) -> np.ndarray:
    """Return a gradient for an output, equal on both sides: 1 for a loss, else normal numbers."""
    if output.ndim == 0:
        return np.ones((), np.float32)
    return np.random.default_rng(1).standard_normal(output.shape, dtype=np.float32)
