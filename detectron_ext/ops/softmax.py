"""Softmax over groups of channels."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator, require_integer


def group_spatial_softmax(
    net: core.Net, x: Any, output: Any, num_classes: int
) -> core.BlobReference:
    """Add Detectron's GroupSpatialSoftmax: at each position, one softmax an anchor.

    Args:
        x: logits, (N, A * num_classes, H, W) float32.
        output: name of the probabilities.
        num_classes: channels in a group, at least 1.

    Returns:
        The probabilities, shaped as x.

    Raises:
        ValueError: `num_classes` is not an integer of at least 1.
    """
    require_integer("num_classes", num_classes, 1)
    return add_operator(net, "GroupSpatialSoftmax", [x], [output], num_classes=num_classes)
