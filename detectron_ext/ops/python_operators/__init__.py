"""The operators in numpy, for where no native one can run.

`OPERATORS` maps a name of Caffe2's registry to a forward and a backward function on arrays, of the
operator or of the parts that it is split into. Tensors are float32, indices and labels int32;
numbers and refusals are those of the native operators. `add` puts one into a net as a Caffe2
"Python" operator. Such a net can be saved or sent to another process only if that process can
import this package, for it carries the names of these functions, not their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2.python import core

from detectron_ext.ops.python_operators.attention import EMBEDDED_GAUSSIAN_ATTENTION
from detectron_ext.ops.python_operators.box_losses import (
    BALANCED_L1_LOSS,
    SELECT_BALANCED_L1_LOSS,
    SELECT_SMOOTH_L1_LOSS,
    SMOOTH_L1_LOSS,
)
from detectron_ext.ops.python_operators.focal_losses import (
    SIGMOID_FOCAL_LOSS,
    SOFTMAX_FOCAL_LOSS,
    WEIGHTED_SIGMOID_FOCAL_LOSS,
)
from detectron_ext.ops.python_operators.operator import (
    PythonOperator,
    require_types,
    write_tensors,
)
from detectron_ext.ops.python_operators.pyramid import (
    BALANCED_PYRAMID_GATHER,
    BALANCED_PYRAMID_SCATTER,
    UPSAMPLE_NEAREST,
)
from detectron_ext.ops.python_operators.regions import (
    ROI_POOL_F,
    SIGMOID_CROSS_ENTROPY_LOSS,
    SPATIAL_NARROW_AS,
)
from detectron_ext.ops.python_operators.softmax import GROUP_SPATIAL_SOFTMAX

OPERATORS: dict[str, PythonOperator] = {
    "BalancedL1Loss": BALANCED_L1_LOSS,
    "BalancedPyramidGather": BALANCED_PYRAMID_GATHER,
    "BalancedPyramidScatter": BALANCED_PYRAMID_SCATTER,
    "EmbeddedGaussianAttention": EMBEDDED_GAUSSIAN_ATTENTION,
    "GroupSpatialSoftmax": GROUP_SPATIAL_SOFTMAX,
    "RoIPoolF": ROI_POOL_F,
    "SelectBalancedL1Loss": SELECT_BALANCED_L1_LOSS,
    "SelectSmoothL1Loss": SELECT_SMOOTH_L1_LOSS,
    "SigmoidCrossEntropyLoss": SIGMOID_CROSS_ENTROPY_LOSS,
    "SigmoidFocalLoss": SIGMOID_FOCAL_LOSS,
    "SmoothL1Loss": SMOOTH_L1_LOSS,
    "SoftmaxFocalLoss": SOFTMAX_FOCAL_LOSS,
    "SpatialNarrowAs": SPATIAL_NARROW_AS,
    "UpsampleNearest": UPSAMPLE_NEAREST,
    "WeightedSigmoidFocalLoss": WEIGHTED_SIGMOID_FOCAL_LOSS,
}


def add(
    net: core.Net, name: str, inputs: Sequence[Any], outputs: Sequence[Any], **arguments: Any
) -> core.BlobReference | tuple[core.BlobReference, ...]:
    """Add operator `name` to `net` as a Python operator, or several, whose gradients are too.

    Args:
        net: the net to add to.
        name: a key of OPERATORS; it becomes the operator's name in the net.
        inputs, outputs: blob names or references.
        arguments: the operator's arguments, picklable.

    Returns:
        The output, or a tuple of them where there are several.
    """
    parts = OPERATORS[name].split(list(inputs), list(outputs), arguments)
    added = [_add_part(net, name, *part) for part in parts]
    return added[0] if len(added) == 1 else tuple(added)


def _add_part(net: core.Net, name: str, inputs: list, outputs: list, arguments: dict) -> Any:
    operator = OPERATORS[name]
    python = net.Python(
        (build_forward, (name, arguments), {}),
        (build_backward, (name, arguments), {}),
        grad_input_indices=_indices(operator.differentiable_inputs, len(inputs)),
        grad_output_indices=_indices(operator.differentiable_outputs, len(outputs)),
    )
    return python(inputs, outputs, name=name)


def build_forward(name: str, arguments: dict[str, Any]) -> Any:
    """Return the function that Caffe2 calls with the tensors of operator `name`."""
    operator = OPERATORS[name]

    def forward(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        arrays = [tensor.data for tensor in inputs]
        require_types(name, arrays, operator.input_types)
        write_tensors(outputs, operator.forward(arrays, **arguments))

    return forward


def build_backward(name: str, arguments: dict[str, Any]) -> Any:
    """Return the function that Caffe2 calls with the tensors of operator `name`'s gradient.

    Caffe2 passes the operator's inputs, then its outputs, then the gradients of the
    differentiable outputs.
    """
    operator = OPERATORS[name]

    def backward(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        arrays = [tensor.data for tensor in inputs]
        write_tensors(outputs, operator.backward(arrays, **arguments))

    return backward


def _indices(positions: slice, count: int) -> list[int]:
    return list(range(count)[positions])
