"""Attention between all positions of a map: the core of the non-local refinement."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops import library
from detectron_ext.ops.frontend import add_operator


def embedded_gaussian_attention(
    net: core.Net, theta: Any, phi: Any, g: Any, output: Any, *, use_scale: bool = False
) -> core.BlobReference:
    """Add EmbeddedGaussianAttention (Non-local Neural Networks, section 3.2).

    output[:, :, p] = sum_q softmax_q(theta[:, :, p] . phi[:, :, q]) * g[:, :, q]

    Natively a second blob, `output` with "_log_sums" at its end, keeps what the gradient would
    otherwise compute again: (N, H * W) numbers.

    Args:
        theta, phi, g: (N, C, H, W) float32; p and q run over the H * W positions.
        output: name of the result.
        use_scale: divide the products by sqrt(C) before the softmax.

    Returns:
        The result, (N, C, H, W).
    """
    outputs = [output]
    if library.has_native("EmbeddedGaussianAttention"):
        outputs.append(output + "_log_sums")
    result = add_operator(
        net,
        "EmbeddedGaussianAttention",
        [theta, phi, g],
        outputs,
        use_scale=int(use_scale),
    )
    return result[0] if len(outputs) > 1 else result
