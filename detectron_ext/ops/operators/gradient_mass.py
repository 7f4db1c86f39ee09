"""How much of the focal loss's gradient comes from the negatives of each bin.

The weights of negatives that balance this gradient are made with it (`modeling.negative_weights`).
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.limits import MAX_GRADIENT_BINS
from detectron_ext.ops.frontend import Blob, add_operator, require_integer
from detectron_ext.ops.input_checks import require, require_map
from detectron_ext.ops.loss_arguments import focal_arguments
from detectron_ext.ops.operators.focal_losses import sigmoid_slope_terms
from detectron_ext.ops.operators.group_spatial_softmax import split_groups
from detectron_ext.ops.reference import gradient_mass as reference
from detectron_ext.ops.table import (
    FLOAT,
    INTEGER,
    LIBRA,
    NONE,
    Operator,
    PythonOperator,
    reference_of,
    register,
)

_NAME = "NegativeGradientMass"


def negative_gradient_mass(
    net: core.Net,
    logits: Blob,
    bins: Blob,
    output: Blob,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    num_classes: int = 80,
    num_bins: int = 3,
) -> core.BlobReference:
    """Add NegativeGradientMass: the gradient of the focal loss, added up for each bin of negatives.

        mass of a bin = sum over its anchors and over classes
            of the absolute derivative of -(1 - alpha) p^gamma log(1 - p)

    It is not divided by fg_num, and it has no gradient.

    Args:
        net: the net to add to.
        logits: (N, A * num_classes, H, W) float32.
        bins: (N, A, H, W) int32; 1 to num_bins is the bin of a negative, and anchors of bin 0 are
            not counted. The CPU rejects other bins. CUDA does not check bins and does not count
            anchors with others.
        output: name of the masses, (num_bins,); that of bin k + 1 is at place k.
        gamma: focusing exponent, at least 0.
        alpha: weight of the foreground, from 0 to 1; the weight of the background is 1 - alpha.
        num_classes: classes of an anchor without the background, at least 1.
        num_bins: number of bins, from 1 to 4096.

    Returns:
        The masses.

    Raises:
        ValueError: an argument is out of its range.
    """
    arguments = focal_arguments(gamma, alpha, 1.0, num_classes, 1)
    del arguments["scale"]
    require_integer("num_bins", num_bins, 1, MAX_GRADIENT_BINS)
    return add_operator(net, _NAME, [logits, bins], [output], **arguments, num_bins=int(num_bins))


def _forward(
    inputs: Sequence[np.ndarray], *, gamma: float, alpha: float, num_classes: int, num_bins: int
) -> list[np.ndarray]:
    logits, bins = inputs
    require_map(_NAME, "logits", logits)
    n, anchors, height, width = bins.shape if bins.ndim == 4 else (-1,) * 4
    require(
        logits.shape == (n, anchors * num_classes, height, width),
        _NAME,
        f"bins {bins.shape} must be (N, A, H, W) for logits {logits.shape}, "
        f"(N, A * {num_classes}, H, W)",
    )
    require(
        bool(((bins >= 0) & (bins <= num_bins)).all()),
        _NAME,
        f"bins {bins.shape} must be from 0 to num_bins, {num_bins}",
    )
    slopes = sigmoid_slope_terms(split_groups(logits, num_classes), gamma)
    masses = (np.float32(1 - alpha) * slopes).sum(axis=2, dtype=np.float64)
    return [np.bincount(bins.ravel(), masses.ravel(), minlength=num_bins + 1)[1:]]


def _no_gradient(*arrays: Any, **arguments: Any) -> list[np.ndarray]:
    return []


register(
    Operator(
        _NAME,
        negative_gradient_mass,
        ("logits", "bins"),
        ("output",),
        reference_of(reference.negative_gradient_mass),
        _no_gradient,
        LIBRA,
        python=PythonOperator(_forward, _no_gradient, input_types=(FLOAT, INTEGER)),
        differentiable_inputs=NONE,
        differentiable_outputs=NONE,
    )
)
