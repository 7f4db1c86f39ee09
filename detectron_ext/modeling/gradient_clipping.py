"""Limits the norm of all gradients together (Pascanu et al., ICML 2013)."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.python import core

NORM = "gradient_norm"
_LARGEST = float(np.finfo(np.float32).max)


def add_gradient_clipping(model: Any, params: Sequence[core.BlobReference], limit: float) -> None:
    """Scale the gradients of parameters so that their common norm is at most ``limit``.

    Call it in the scope of a replica after the gradients of all replicas and processes were added
    up, and before weight decay. Then every replica has the same norm, whatever their number.

    The norm before scaling is the blob ``gradient_norm``, a float32 scalar, which the training log
    reports.

    Args:
        model: a training model with gradients: `DetectionModel`, or upstream's model helper with
            the methods of `layers.DetectionLayers`.
        params: the parameters of the replica.
        limit: the largest norm, above 0.
    """
    net = model.net
    gradients = [model.param_to_grad[param] for param in params]
    squares = [
        net.SumSqrElements(gradient, param + "_square_sum")
        for param, gradient in zip(params, gradients)
    ]
    norm = net.Sqrt(net.Sum(squares, "square_sum"), NORM)
    bounded = net.Clip(norm, "gradient_norm_bounded", min=limit, max=_LARGEST)
    largest = model.param_init_net.ConstantFill([], "gradient_limit", shape=[1], value=limit)
    factor = net.Div([largest, bounded], "gradient_factor")
    for gradient in gradients:
        net.Mul([gradient, factor], gradient)
    model.add_metrics([NORM])
