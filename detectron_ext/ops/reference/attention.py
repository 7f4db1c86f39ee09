"""Embedded Gaussian attention over the positions of a map.

This is Non-local Neural Networks (Wang et al., CVPR 2018), section 3.2.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.ops.reference.arrays import float64

__all__ = [
    "embedded_gaussian_attention",
    "embedded_gaussian_attention_gradient",
]


def embedded_gaussian_attention(
    theta: np.ndarray, phi: np.ndarray, g: np.ndarray, *, use_scale: int = 0
) -> np.ndarray:
    """Return y (N, C, H, W): y[:, p] = sum_q softmax_q(theta[:, p] . phi[:, q]) g[:, q].

    Args:
        theta: embeddings of the positions p, (N, C, H, W).
        phi: embeddings of the positions q, shaped as theta.
        g: the values that are averaged, shaped as theta.
        use_scale: 1 divides the products by sqrt(C) before the softmax.
    """
    weights = _attention_weights(theta, phi, use_scale)
    return np.einsum("npq,ncq->ncp", weights, _positions(g)).reshape(np.shape(g))


def embedded_gaussian_attention_gradient(
    theta: np.ndarray, phi: np.ndarray, g: np.ndarray, d_y: np.ndarray, *, use_scale: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of `embedded_gaussian_attention` with respect to theta, phi and g.

    Args:
        theta: embeddings of the positions p, (N, C, H, W).
        phi: embeddings of the positions q, shaped as theta.
        g: the values that are averaged, shaped as theta.
        d_y: gradient of the result y, shaped as theta.
        use_scale: as in `embedded_gaussian_attention`.
    """
    weights = _attention_weights(theta, phi, use_scale)
    theta_p, phi_q, g_q, d_y_p = (_positions(a) for a in (theta, phi, g, d_y))
    d_weights = np.einsum("ncp,ncq->npq", d_y_p, g_q)
    d_logits = weights * (d_weights - (weights * d_weights).sum(axis=2, keepdims=True))
    d_logits = d_logits * _logit_scale(theta, use_scale)
    shape = np.shape(theta)
    d_theta = np.einsum("npq,ncq->ncp", d_logits, phi_q).reshape(shape)
    d_phi = np.einsum("npq,ncp->ncq", d_logits, theta_p).reshape(shape)
    d_g = np.einsum("npq,ncp->ncq", weights, d_y_p).reshape(np.shape(g))
    return d_theta, d_phi, d_g


def _attention_weights(theta: np.ndarray, phi: np.ndarray, use_scale: int) -> np.ndarray:
    """Return the softmax over q of theta . phi: (N, H * W, H * W)."""
    logits = np.einsum("ncp,ncq->npq", _positions(theta), _positions(phi))
    logits = logits * _logit_scale(theta, use_scale)
    exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
    return exponentials / exponentials.sum(axis=2, keepdims=True)


def _logit_scale(theta: np.ndarray, use_scale: int) -> float:
    return max(np.shape(theta)[1], 1) ** -0.5 if use_scale else 1.0


def _positions(x: np.ndarray) -> np.ndarray:
    """Return x as float64 of shape (N, C, H * W)."""
    x = float64(x)
    n, channels, height, width = x.shape
    return x.reshape(n, channels, height * width)
