"""Attention between all positions of a map: the core of the non-local refinement."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator


def embedded_gaussian_attention(
    net: core.Net, theta: Any, phi: Any, g: Any, output: Any, *, use_scale: bool = False
) -> core.BlobReference:
    """Add EmbeddedGaussianAttention (Non-local Neural Networks, section 3.2).

    output[:, :, p] = sum_q softmax_q(theta[:, :, p] . phi[:, :, q]) * g[:, :, q]

    Args:
        theta, phi, g: (N, C, H, W) float32; p and q run over the H * W positions.
        output: name of the result.
        use_scale: divide the products by sqrt(C) before the softmax.

    Returns:
        The result, (N, C, H, W).
    """
    return add_operator(
        net,
        "EmbeddedGaussianAttention",
        [theta, phi, g],
        [output],
        use_scale=int(use_scale),
    )
