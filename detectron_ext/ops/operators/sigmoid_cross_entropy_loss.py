"""SigmoidCrossEntropyLoss: the loss of the RPN's objectness (Faster R-CNN, section 3.1.2).

The Python operator evaluates the float64 definition.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops.frontend import Blob, add_operator, require_not_negative
from detectron_ext.ops.input_checks import require
from detectron_ext.ops.reference import regions as reference
from detectron_ext.ops.table import (
    DETECTRON,
    FLOAT,
    INTEGER,
    PythonOperator,
    register_loss,
)


def sigmoid_cross_entropy_loss(
    net: core.Net,
    logits: Blob,
    targets: Blob,
    output: Blob,
    *,
    scale: float = 1.0,
    normalize: bool = True,
) -> core.BlobReference:
    """Add Detectron's SigmoidCrossEntropyLoss: binary cross-entropy of each logit.

    Args:
        net: the net to add to.
        logits: float32, of any shape; the only input with a gradient.
        targets: int32, one for each logit: 1, 0, or -1 for ignored.
        output: name of the loss, a scalar; 0 if all targets are ignored.
        scale: factor of the loss, at least 0.
        normalize: divide the sum by the number of targets that are not ignored.

    Returns:
        The loss.

    Raises:
        ValueError: an argument is out of its range.
    """
    require_not_negative(scale=scale)
    arguments = {"scale": float(scale), "normalize": int(normalize)}
    return add_operator(net, "SigmoidCrossEntropyLoss", [logits, targets], [output], **arguments)


def _checked(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Check logits and targets; return the targets shaped as the logits."""
    logits, targets = inputs
    require(
        logits.size == targets.size,
        "SigmoidCrossEntropyLoss",
        f"targets {targets.shape} must be as many as logits {logits.shape}",
    )
    return logits, targets.reshape(logits.shape)


def _forward(inputs: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
    return [reference.sigmoid_cross_entropy_loss(*_checked(inputs), **arguments)]


def _backward(arrays: Sequence[np.ndarray], **arguments: Any) -> list[np.ndarray]:
    *inputs, _, d_loss = arrays
    return [reference.sigmoid_cross_entropy_loss_gradient(*_checked(inputs), d_loss, **arguments)]


register_loss(
    "SigmoidCrossEntropyLoss",
    sigmoid_cross_entropy_loss,
    DETECTRON,
    ("logits", "targets"),
    reference.sigmoid_cross_entropy_loss,
    reference.sigmoid_cross_entropy_loss_gradient,
    PythonOperator(_forward, _backward, input_types=(FLOAT, INTEGER)),
)
