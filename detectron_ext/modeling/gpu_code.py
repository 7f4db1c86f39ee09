"""Which GPUs the installed libraries have machine code for.

A library of CUDA kernels holds code for some architectures. On any other GPU every kernel fails
with "no kernel image is available", after the data and the weights were read. So such a GPU is left
out before.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import NamedTuple, Sequence

from detectron_ext.ops.library import native_architectures

_LOG = logging.getLogger(__name__)


class Gpu(NamedTuple):
    """A GPU of this machine.

    Attributes:
        name: its name, such as "Tesla V100-SXM2-16GB".
        capability: its compute capability, (major, minor).
    """

    name: str
    capability: tuple[int, int]


def runnable_gpus(gpus: Sequence[Gpu]) -> int:
    """Return how many of the GPUs can be used, and log once which are left out and why.

    Replicas run on the GPUs 0, 1, 2 and so on. So all GPUs after the first one that cannot be used
    are left out, too; the log tells how to use them.

    Args:
        gpus: the GPUs that CUDA shows to this process, in its order.
    """
    faults = [_fault(gpu) for gpu in gpus]
    usable = ",".join(str(number) for number, fault in enumerate(faults) if not fault)
    count = next((number for number, fault in enumerate(faults) if fault), len(gpus))
    for number, (gpu, fault) in enumerate(zip(gpus, faults)):
        if fault:
            _say_once(f"GPU {number} ({gpu.name}) is left out: {fault}")
        elif number > count:
            _say_once(
                f"GPU {number} ({gpu.name}) is left out: it stands after GPU {count}, which cannot "
                f"be used; choose the GPUs by CUDA_VISIBLE_DEVICES (here {usable})"
            )
    return count


def _fault(gpu: Gpu) -> str:
    """Return why a GPU cannot be used; "" if it can."""
    libraries = {"torch": _torch_architectures(), "the native library": native_architectures()}
    for library, architectures in libraries.items():
        if not has_code_for(architectures, gpu.capability):
            major, minor = gpu.capability
            return (
                f"its compute capability is {major}.{minor}, and {library} has code for "
                f"{' '.join(architectures)} only"
            )
    return ""


def has_code_for(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return whether a library can run on a GPU.

    Args:
        architectures: what the library was compiled for: "sm_75" is machine code, which runs on
            GPUs of the same major version and the same or a later minor version. "compute_75" is
            PTX, which the driver compiles for every later GPU. Without any such name, nothing is
            known and the result is True.
        capability: the GPU's compute capability, (major, minor).
    """
    known = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in architectures]
    compiled = [(m.group(1), (int(m.group(2)), int(m.group(3)))) for m in known if m]
    return not compiled or any(
        version <= capability and (kind == "compute" or version[0] == capability[0])
        for kind, version in compiled
    )


def _torch_architectures() -> list[str]:
    """Return what torch's CUDA kernels, which are Caffe2's, were compiled for; [] if unknown."""
    try:
        import torch
    except ImportError:  # a Caffe2 that was built from source
        return []
    tell = getattr(torch.cuda, "get_arch_list", None)
    return list(tell()) if tell else []


@lru_cache(maxsize=None)
def _say_once(line: str) -> None:
    _LOG.warning("%s", line)
