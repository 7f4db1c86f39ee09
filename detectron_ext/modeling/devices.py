"""The devices that a graph's operators run on, and the names of blobs there.

On the CPU blobs have their plain names (``conv1_w``). On GPUs each replica has its own name scope,
as in Detectron (``gpu_0/conv1_w``).
"""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from caffe2.proto import caffe2_pb2
from caffe2.python import core, scope, workspace

from detectron_ext.config.settings import Settings
from detectron_ext.modeling.gpu_code import Gpu, runnable_gpus

if TYPE_CHECKING:
    from detectron_ext.modeling.layers import Blob
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)


def available_gpus() -> int:
    """Return the number of this machine's GPUs that this Caffe2 can use.

    A GPU that the installed libraries have no machine code for cannot be used; one line of the log
    names it (see `gpu_code`).
    """
    if not workspace.has_gpu_support:
        return 0
    return runnable_gpus([_gpu(number) for number in range(workspace.NumGpuDevices())])


def _gpu(number: int) -> Gpu:
    about = workspace.GetDeviceProperties(number)
    return Gpu(about["name"], (about["major"], about["minor"]))


def usable_gpus(config: Settings) -> int:
    """Return NUM_GPUS, or the number of the machine's GPUs if that is less; 0 means the CPU.

    A lowered number is logged once.
    """
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


def replica_scopes(num_gpus: int) -> list[str]:
    """Return the name scopes of a model's replicas: [""] on the CPU, ["gpu_0/", ...] on GPUs."""
    return [f"gpu_{gpu}/" for gpu in range(num_gpus)] or [""]


@contextlib.contextmanager
def replica(index: int, num_gpus: int) -> Iterator[None]:
    """Set the name scope and the device of one replica, to add its operators or feed its blobs.

    Args:
        index: number of the replica, from 0.
        num_gpus: number of all replicas; 0 is one replica on the CPU.
    """
    if num_gpus == 0:
        with core.DeviceScope(core.DeviceOption(caffe2_pb2.CPU)):
            yield
        return
    device = core.DeviceOption(caffe2_pb2.CUDA, index)
    with scope.NameScope(f"gpu_{index}"), core.DeviceScope(device):
        yield


def add_cpu_operator(
    model: DetectionModel,
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    **arguments: Any,
) -> None:
    """Add an operator that Caffe2 has for the CPU only. On a GPU, copies are added around it.

    Args:
        model: gets the operators.
        operator: type of the operator, as Caffe2's registry names it.
        inputs: names of blobs, on the device of the scope.
        outputs: names of blobs, on the device of the scope.
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


def unscoped(name: Blob) -> str:
    """Return a blob's name without its replica's scope: gpu_0/conv1_w becomes conv1_w."""
    return str(name).rsplit(scope._NAMESCOPE_SEPARATOR, 1)[-1]
