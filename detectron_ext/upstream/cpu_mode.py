"""Runs upstream on a machine without a GPU, or with NUM_GPUS 0.

Upstream puts everything on CUDA devices, each with a name scope ``gpu_<n>/``. Here every CUDA
device becomes the CPU, and one replica in the scope ``gpu_0/`` stands for all GPUs. Names of blobs,
scripts and weights files do not change.
"""

from __future__ import annotations

import logging
import resource
from typing import Any, Callable

import numpy as np

from detectron_ext.upstream.cfg_node import upstream_cfg
from detectron_ext.upstream.patches import ANY, AppliedPatches, Patch, constant

_LOG = logging.getLogger(__name__)
_REPLICAS = 1


class _State:
    """The applied patches; they are applied while CUDA devices are the CPU in this process."""

    applied: AppliedPatches | None = None


def is_on() -> bool:
    """Return whether upstream runs on the CPU."""
    return _State.applied is not None


def turn_on() -> None:
    """Make upstream's CUDA devices the CPU. Later calls do nothing."""
    if _State.applied is None:
        applied = AppliedPatches()
        applied.apply(_cpu_patches())
        _State.applied = applied
        _LOG.info("Detectron runs on the CPU, with SOLVER.BASE_LR and MAX_ITER as set")


def turn_off() -> None:
    """Undo `turn_on`."""
    if _State.applied is not None:
        _State.applied.restore()
        _State.applied = None


def machine_has_gpu() -> bool:
    """Return whether this Caffe2 finds a GPU that it can use."""
    from detectron_ext.modeling.devices import available_gpus

    return available_gpus() > 0


def patches() -> list[Patch]:
    """Return the patch that chooses the device when the configuration is complete."""
    return [
        Patch(
            "detectron.core.config",
            "assert_and_infer_cfg",
            ("cache_urls", "make_immutable"),
            _inferring,
        )
    ]


def _inferring(original: Callable) -> Callable:
    def infer(cache_urls=True, make_immutable=True):
        settle_devices(upstream_cfg())
        return original(cache_urls=cache_urls, make_immutable=make_immutable)

    return infer


def settle_devices(cfg: Any) -> None:
    """Limit NUM_GPUS to the GPUs of the machine, and change to the CPU if none is left.

    On the CPU NUM_GPUS becomes 1, the number of replicas. Nets then run their operators one after
    another, each on all threads.
    """
    from detectron_ext.modeling.devices import usable_gpus

    was_immutable = cfg.is_immutable()
    cfg.immutable(False)
    gpus = 0 if is_on() else usable_gpus(cfg)
    if gpus:
        cfg.NUM_GPUS = gpus
    else:
        turn_on()
        cfg.NUM_GPUS = _REPLICAS
        cfg.MODEL.EXECUTION_TYPE = "simple"
    cfg.immutable(was_immutable)


def _cpu_patches() -> list[Patch]:
    return [
        Patch("caffe2.python.core", "DeviceOption", ANY, _making_device_option),
        Patch("caffe2.python.workspace", "GpuDeviceType", ANY, constant(_cpu())),
        Patch("caffe2.python.utils", "GetGPUMemoryUsageStats", ANY, constant(_memory_statistics)),
        Patch("detectron.core.test_engine", "run_inference", _RUN_INFERENCE, _inferring_alone),
    ]


_RUN_INFERENCE = (
    "weights_file",
    "ind_range",
    "multi_gpu_testing",
    "gpu_id",
    "check_expected_results",
)


def _cpu() -> int:
    from caffe2.proto import caffe2_pb2

    return caffe2_pb2.CPU


def _making_device_option(original: Callable) -> Callable:
    from caffe2.proto import caffe2_pb2

    def make(device_type, device_id=0, *arguments, **options):
        if device_type == caffe2_pb2.CUDA:
            device_type, device_id = caffe2_pb2.CPU, 0
        return original(device_type, device_id, *arguments, **options)

    return make


def _memory_statistics() -> dict:
    """Return the peak memory of the process, in bytes, in the form of Caffe2's GPU statistics."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    by_device = np.array([peak])
    return {
        "total_by_gpu": by_device,
        "max_by_gpu": by_device,
        "total": peak,
        "max_total": peak,
    }


def _inferring_alone(original: Callable) -> Callable:
    def run(weights_file, ind_range=None, multi_gpu_testing=False, *arguments, **options):
        if multi_gpu_testing:
            _LOG.info("there is no GPU: testing runs in this process")
        return original(weights_file, ind_range, False, *arguments, **options)

    return run
