"""Measures the errors of kernels, relative to float64, and times on the GPU."""

from __future__ import annotations

import statistics
from typing import Any, Callable, Sequence

import torch

from detectron_ext.kernel_benchmark.cases import Case, Tensors

_WARM_UP = 3
_COPY_BYTES = 1 << 30
# Larger than the last-level cache of any GPU. While this memory is cleared, Python launches the
# kernels that follow, so the slowness of Python is not measured.
_FLUSH_BYTES = 1 << 29


def expected(case: Case) -> tuple[Tensors, Tensors]:
    """Return the outputs and gradients of a case's formula in float64."""
    wide = [x.double() if x.is_floating_point() else x for x in case.inputs]
    for i in case.differentiable:
        wide[i].requires_grad_()
    outputs = case.formula(*wide)
    gradients = torch.autograd.grad(
        outputs, [wide[i] for i in case.differentiable], [d.double() for d in case.d_outputs]
    )
    return [output.detach() for output in outputs], gradients


def relative_error(actual: Tensors, wanted: Tensors) -> float:
    """Return the largest |actual - wanted| / |wanted| of the pairs, in the Euclidean norm."""
    errors = []
    for one, other in zip(actual, wanted):
        norm = float(other.norm())
        errors.append(float((one.double().reshape(other.shape) - other).norm()) / (norm or 1.0))
    # Python's max overlooks a NaN that does not come first.
    return max(errors) if all(error == error for error in errors) else float("nan")


def run_twice(case: Case) -> bool:
    """Run forward and backward twice over memory full of NaNs; return whether the bits agree."""
    bits = []
    for _ in range(2):
        for written in (*case.outputs, *case.gradients):
            written.fill_(float("nan"))
        case.forward()
        case.backward()
        bits.append([x.view(torch.int32).clone() for x in (*case.outputs, *case.gradients)])
    return all(torch.equal(one, other) for one, other in zip(*bits))


class Clock:
    """Times stages of work with CUDA events. None of their data are in the cache at the start.

    Args:
        repeat: how often each stage is timed.
    """

    def __init__(self, repeat: int) -> None:
        self._repeat = repeat
        self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def medians(self, stages: Sequence[Callable[[Any], Any]]) -> list[float]:
        """Return the median seconds of each stage; a stage takes the result of the previous one."""
        seconds = []
        for _ in range(_WARM_UP + self._repeat):
            result, events = None, []
            for stage in stages:
                self._flush.zero_()
                pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
                pair[0].record()
                result = stage(result)
                pair[1].record()
                events.append(pair)
            torch.cuda.synchronize()
            seconds.append([begin.elapsed_time(end) / 1e3 for begin, end in events])
        return [statistics.median(column) for column in zip(*seconds[_WARM_UP:])]

    def copy_bandwidth(self) -> float:
        """Return the bytes a second, read and written, of a device-to-device copy."""
        source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        return 2 * _COPY_BYTES / self.medians([lambda _: target.copy_(source)])[0]


def time_ours(case: Case, clock: Clock) -> list[float]:
    """Return the median seconds of our forward pass and of our backward pass."""
    return clock.medians([lambda _: case.forward(), lambda _: case.backward()])


def time_formula(case: Case, formula: Callable[..., Tensors], clock: Clock) -> list[float]:
    """Return the median seconds of a formula's forward pass and of its backward pass."""
    inputs = [x.detach() for x in case.inputs]
    for i in case.differentiable:
        inputs[i].requires_grad_()

    def backward(outputs):
        return torch.autograd.grad(
            outputs, [inputs[i] for i in case.differentiable], list(case.d_outputs)
        )

    return clock.medians([lambda _: formula(*inputs), backward])
