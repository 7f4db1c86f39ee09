"""The embedded-Gaussian non-local block (Non-local Neural Networks, section 3)."""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.arrays import float64
from detectron_ext.ops.reference.attention import (
    embedded_gaussian_attention,
    embedded_gaussian_attention_gradient,
)

__all__ = [
    "non_local_block",
    "non_local_block_gradient",
]


def non_local_block(
    x: np.ndarray,
    theta_w: np.ndarray,
    theta_b: np.ndarray,
    phi_w: np.ndarray,
    phi_b: np.ndarray,
    g_w: np.ndarray,
    g_b: np.ndarray,
    out_w: np.ndarray,
    out_b: np.ndarray,
    *,
    use_scale: int = 0,
) -> np.ndarray:
    """Return x + out(attention(theta(x), phi(x), g(x))), (N, C, H, W).

    theta, phi and g are 1x1 convolutions from C to K channels, and `out` is a 1x1
    convolution from K to C channels.

    Args:
        x: (N, C, H, W).
        theta_w: filters of theta, (K, C, 1, 1).
        theta_b: biases of theta, (K).
        phi_w: filters of phi, (K, C, 1, 1).
        phi_b: biases of phi, (K).
        g_w: filters of g, (K, C, 1, 1).
        g_b: biases of g, (K).
        out_w: filters of `out`, (C, K, 1, 1).
        out_b: biases of `out`, (C).
        use_scale: 1 divides the attention's products by sqrt(K) before the softmax.
    """
    theta, phi, g = (_conv(x, *wb) for wb in ((theta_w, theta_b), (phi_w, phi_b), (g_w, g_b)))
    attended = embedded_gaussian_attention(theta, phi, g, use_scale=use_scale)
    return float64(x) + _conv(attended, out_w, out_b)


def non_local_block_gradient(
    x: np.ndarray,
    theta_w: np.ndarray,
    theta_b: np.ndarray,
    phi_w: np.ndarray,
    phi_b: np.ndarray,
    g_w: np.ndarray,
    g_b: np.ndarray,
    out_w: np.ndarray,
    out_b: np.ndarray,
    d_y: np.ndarray,
    *,
    use_scale: int = 0,
) -> list[np.ndarray]:
    """Return the gradients of `non_local_block` with respect to its nine inputs, in their order.

    The inputs are those of `non_local_block`, and d_y is the gradient of its result, (N, C, H, W).
    The gradient of phi_b is 0, except for rounding errors: phi_b adds the same number to all
    products of a position, which the softmax cancels.
    """
    theta, phi, g = (_conv(x, *wb) for wb in ((theta_w, theta_b), (phi_w, phi_b), (g_w, g_b)))
    attended = embedded_gaussian_attention(theta, phi, g, use_scale=use_scale)
    d_attended, *d_out = _conv_gradient(attended, out_w, d_y)
    d_maps = embedded_gaussian_attention_gradient(theta, phi, g, d_attended, use_scale=use_scale)
    d_x, d_weights = float64(d_y), []
    for filters, d_map in zip((theta_w, phi_w, g_w), d_maps):
        d_source, *d_filters_and_biases = _conv_gradient(x, filters, d_map)
        d_x = d_x + d_source
        d_weights += d_filters_and_biases
    return [d_x, *d_weights, *d_out]


def _conv(x: np.ndarray, filters: np.ndarray, biases: np.ndarray) -> np.ndarray:
    y = np.einsum("oc,nchw->nohw", float64(filters)[:, :, 0, 0], float64(x))
    return y + float64(biases)[:, None, None]


def _conv_gradient(
    x: np.ndarray, filters: np.ndarray, d_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d_y = float64(d_y)
    d_x = np.einsum("oc,nohw->nchw", float64(filters)[:, :, 0, 0], d_y)
    d_filters = np.einsum("nohw,nchw->oc", d_y, float64(x))
    return d_x, d_filters[:, :, None, None], d_y.sum(axis=(0, 2, 3))
