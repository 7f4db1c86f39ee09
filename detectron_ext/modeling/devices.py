"""Where a graph's operators run: the CPU, or one name scope for each GPU.

On the CPU blobs have their plain names (``conv1_w``); on GPUs each replica lives in Detectron's
scope (``gpu_0/conv1_w``).
"""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache

from caffe2.proto import caffe2_pb2
from caffe2.python import core, scope, workspace

_LOG = logging.getLogger(__name__)


def available_gpus() -> int:
    """GPUs of this machine that this Caffe2 can use."""
    return workspace.NumGpuDevices() if workspace.has_gpu_support else 0


def usable_gpus(config) -> int:
    """NUM_GPUS capped at what the machine has; 0 means the CPU. A cap is logged once."""
    available = available_gpus()
    wanted = config.NUM_GPUS
    if wanted > available:
        _say_once(wanted, available)
    return min(wanted, available)


@lru_cache(maxsize=None)
def _say_once(wanted: int, available: int) -> None:
    where = f"{available} GPUs" if available else "the CPU"
    _LOG.info(
        "NUM_GPUS is %d and this machine has %d: running on %s, with SOLVER.BASE_LR and "
        "MAX_ITER as set",
        wanted,
        available,
        where,
    )


def replica_scopes(num_gpus: int) -> list:
    """Name scopes of the model's replicas: [""] on the CPU, ["gpu_0/", ...] on GPUs."""
    return [f"gpu_{gpu}/" for gpu in range(num_gpus)] or [""]


@contextlib.contextmanager
def replica(index: int, num_gpus: int):
    """Scope in which operators of one replica are added or its blobs are fed."""
    if num_gpus == 0:
        with core.DeviceScope(core.DeviceOption(caffe2_pb2.CPU)):
            yield
        return
    device = core.DeviceOption(caffe2_pb2.CUDA, index)
    with scope.NameScope(f"gpu_{index}"), core.DeviceScope(device):
        yield


def add_cpu_operator(model, operator: str, inputs: list, outputs: list, **arguments) -> None:
    """Add an operator that Caffe2 has for the CPU alone; on a GPU copies surround it.

    Args:
        model: gets the operators.
        operator: a name of Caffe2's registry.
        inputs, outputs: names of blobs, on the device of the scope.
        arguments: the operator's arguments.
    """
    add = getattr(model.net, operator)
    if not model.num_gpus:
        add(inputs, outputs, **arguments)
        return
    copies = [model.net.CopyGPUToCPU(blob, f"{blob}_cpu") for blob in inputs]
    with core.DeviceScope(core.DeviceOption(caffe2_pb2.CPU)):
        results = add(copies, [f"{blob}_cpu" for blob in outputs], **arguments)
    for result, output in zip([results] if len(outputs) == 1 else results, outputs):
        model.net.CopyCPUToGPU(result, output)


def unscoped(name) -> str:
    """A blob's name without its replica scope: gpu_0/conv1_w becomes conv1_w."""
    return str(name).rsplit(scope._NAMESCOPE_SEPARATOR, 1)[-1]
