"""Sums over the processes of one training, by Caffe2's Gloo operators.

Each process computes its part of the minibatch. The losses are divided by the normaliser of the
whole minibatch, so that the sum of all processes' gradients is the gradient of one process with all
images. Everything is summed, nothing is averaged.

Gloo connects the processes by a "common world". Each sum has its own, so that sums which processes
reach in different orders cannot wait for each other. `engine.process_group` makes them.
"""

from __future__ import annotations

import itertools
from typing import Any, Callable, Sequence

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import core

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.blob_sizes import parameter_shapes
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.sampling.sampling_statistics import counts_blob

ENGINE = "GLOO"
STOP = "stop_requested"
"""Blob (1,) float32 that each process feeds before a step: 1 if it was asked to stop, otherwise 0.
After the step it is the number of processes that were asked."""

# Gradients that are sent together. Fewer numbers would pay Gloo's latency more often. More would be
# sent later: the first bucket leaves while the rest of the backward pass is computed.
_BUCKET_NUMBERS = 6_500_000  # 26 MB
_LARGEST = float(np.finfo(np.float32).max)


def check_devices(num_gpus: int) -> None:
    """Raise ConfigError if several processes are to train on GPUs."""
    if num_gpus:
        raise ConfigError(
            "several processes (--num-shards) train on the CPU only: NUM_GPUS must be 0 with "
            "--num-shards"
        )


def add_sum(model: DetectionModel, blobs: Sequence[Blob], name: str, scalars: bool = False) -> None:
    """Replace blobs by their sums over the processes; nothing is added for one process.

    Args:
        model: gets the operators.
        blobs: float32 blobs, each of the same shape in all processes.
        name: name of the sum, used for its blobs.
        scalars: whether the blobs have no dimension, or otherwise at least one.
    """
    if model.num_processes > 1:
        names = list(map(str, blobs))
        model.summed.update(names)
        back = _to_scalar if scalars else _to_shape
        model.net.Proto().op.extend(_sum_operators(model, names, name, back))


def _sum_operators(
    model: DetectionModel, blobs: Sequence[str], name: str, back: Callable[[str, str], Any] | None
) -> list:
    """Return the operators that join blobs, sum them over the processes and take them apart.

    Args:
        model: gets the inputs of the operators.
        blobs: names of the blobs.
        name: name of the sum.
        back: makes, of the names of a blob and of its shape, the operator that restores its shape;
            None leaves it with one dimension.
    """
    world, joined, lengths = f"{name}_world", f"{name}_joined", f"{name}_lengths"
    model.common_worlds.append(world)
    for blob in (world, *blobs):  # what the loader feeds is not known to the net yet
        if not model.net.BlobIsDefined(blob):
            model.net.AddExternalInput(blob)
    shapes = [f"{name}_shape_{number}" for number in range(len(blobs))]
    make = core.CreateOperator
    # Concat takes blobs of one dimension. Reshaping in place copies nothing.
    operators = [make("Reshape", [b], [b, shape], shape=[-1]) for b, shape in zip(blobs, shapes)]
    operators += [
        make("Concat", blobs, [joined, lengths], axis=0),
        make("Allreduce", [world, joined], [joined], engine=ENGINE),
        make("Split", [joined, lengths], blobs, axis=0),
    ]
    operators += map(back, blobs, shapes) if back else []
    for operator in operators:
        operator.device_option.CopyFrom(core.DeviceOption(caffe2_pb2.CPU))
    return operators


def _to_shape(blob: str, shape: str) -> Any:
    return core.CreateOperator("Reshape", [blob, shape], [blob, f"{shape}_of_flat"])


def _to_scalar(blob: str, shape: str) -> Any:
    """Return the operator for a blob without a dimension, which Reshape cannot make."""
    return core.CreateOperator("Squeeze", [blob], [blob], dims=[0])


def add_share(model: DetectionModel, rows: Blob, name: str) -> Blob | None:
    """Add this process's share of the rows of all processes; None for one process.

    A loss that is a mean over rows is multiplied by it. The sum over the processes is then the mean
    over all rows.

    Args:
        model: gets the operators.
        rows: a blob with one element for each row.
        name: name of the share, a float32 scalar.
    """
    if model.num_processes == 1:
        return None
    net = model.net
    ones = net.ConstantFill(rows, f"{name}_ones", value=1.0)
    count = net.SumElements(ones, f"{name}_rows")
    total = net.Copy(count, f"{name}_all_rows")
    add_sum(model, [total], f"{name}_sum", scalars=True)
    net.Clip(total, total, min=1.0, max=_LARGEST)
    share = net.Div([count, total], name)
    return net.StopGradient(share, share)


def add_gradient_sums(model: DetectionModel) -> None:
    """Sum the gradients over the processes, each bucket as soon as its gradients are complete.

    Call it after the gradients were added, and before they are clipped or used.

    Caffe2 orders the operators of a backward pass differently in each process. So the buckets go by
    the order in which the model's parameters were added, last ones first: the backward pass
    completes them roughly in this order. A bucket never precedes the one before it, since a process
    waits in a sum until the others have come to it.
    """
    if model.num_processes == 1:
        return
    net = model.net.Proto()
    complete = {output: index for index, op in enumerate(net.op) for output in op.output}
    sums: dict[int, list] = {}
    position = 0
    for number, bucket in enumerate(_buckets(_gradient_sizes(model))):
        position = max(position, *(complete[gradient] for gradient in bucket))
        added = _sum_operators(model, bucket, f"gradients_{number}", _to_shape)
        sums.setdefault(position, []).extend(added)
    operators = [[op, *sums.get(index, ())] for index, op in enumerate(net.op)]
    net.ClearField("op")
    net.op.extend(itertools.chain.from_iterable(operators))


def _gradient_sizes(model: DetectionModel) -> dict[str, int]:
    """Return the numbers of elements of the parameters' gradients, last parameter first."""
    shapes = parameter_shapes(model)
    return {
        str(model.param_to_grad[param]): int(np.prod(shapes.get(str(param), (1,))))
        for param in reversed(model.trainable_params())
    }


def _buckets(sizes: dict[str, int]) -> list[list[str]]:
    """Divide gradients into buckets of enough numbers, in their order."""
    buckets: list[list[str]] = [[]]
    filled = 0
    for gradient, size in sizes.items():
        if filled >= _BUCKET_NUMBERS:
            buckets.append([])
            filled = 0
        buckets[-1].append(gradient)
        filled += size
    return buckets if buckets[0] else []


def add_reported_sums(model: DetectionModel) -> None:
    """Sum what a step reports, and whether to stop, over the processes. Call it once, at the end.

    Then every process has the losses of the whole minibatch, and all of them see in the same step
    that a loss is not finite or that one of them was asked to stop.
    """
    if model.num_processes == 1:
        return
    counts = [counts_blob(name) for name in model.samplers]
    reported = [STOP, *model.losses, *model.metrics, *counts]
    names = [name for name in reported if name not in model.summed]
    # Some have a dimension and others have none. Whoever reads them does not mind.
    model.net.Proto().op.extend(_sum_operators(model, names, "reported", None))
