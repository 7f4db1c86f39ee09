"""EmbeddedGaussianAttention: attention between all positions of a map.

The Python operator processes one block of queries at a time, so that its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext.ops import library
from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.input_checks import require_map, require_same_shape
from detectron_ext.ops.reference import attention as reference
from detectron_ext.ops.table import (
    ALL,
    LIBRA,
    Operator,
    PythonOperator,
    reference_gradient_of,
    reference_of,
    register,
)

# How many attention weights the Python operator holds at a time (16 MiB).
MAX_WEIGHTS = 1 << 22


def embedded_gaussian_attention(
    net: core.Net, theta: Blob, phi: Blob, g: Blob, output: Blob, *, use_scale: bool = False
) -> core.BlobReference:
    """Add EmbeddedGaussianAttention: attention between all positions of a map.

    This is the core of the non-local block (Non-local Neural Networks, section 3.2):

        output[:, :, p] = sum_q softmax_q(theta[:, :, p] . phi[:, :, q]) * g[:, :, q]

    The positions p and q run over the H * W cells of a map. The native operator has a second
    output, whose name is `output` with "_log_sums" at the end: (N, H * W) numbers that the gradient
    would otherwise compute again.

    Args:
        net: the net to add to.
        theta: embeddings of the positions p, (N, C, H, W) float32.
        phi: embeddings of the positions q, shaped as theta.
        g: the values that are averaged, shaped as theta.
        output: name of the result, shaped as theta.
        use_scale: divide the products by sqrt(C) before the softmax.

    Returns:
        The result.
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


def _query_blocks(positions: int) -> Iterator[slice]:
    """Yield blocks of positions whose attention weights are at most MAX_WEIGHTS numbers."""
    size = max(1, MAX_WEIGHTS // max(positions, 1))
    return (slice(begin, begin + size) for begin in range(0, positions, size))


def _weights(queries: np.ndarray, keys: np.ndarray, scale: np.float32) -> np.ndarray:
    """Return the softmax over keys (C, Q) for each of the queries (C, P): (P, Q)."""
    logits = (queries * scale).T @ keys
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits, out=logits)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _scale(channels: int, use_scale: int) -> np.float32:
    return np.float32(max(channels, 1) ** -0.5 if use_scale else 1.0)


def _images(arrays: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield, for each image, its (C, H * W) part of every array."""
    n, channels, height, width = arrays[0].shape
    return zip(*(array.reshape(n, channels, height * width) for array in arrays))


def _forward(inputs: Sequence[np.ndarray], *, use_scale: int) -> list[np.ndarray]:
    for name, x in zip(("theta", "phi", "g"), inputs):
        require_map("EmbeddedGaussianAttention", name, x)
        require_same_shape("EmbeddedGaussianAttention", name, x, "theta", inputs[0])
    y = np.empty_like(inputs[0])
    scale = _scale(y.shape[1], use_scale)
    for theta, phi, g, out in _images([*inputs, y]):
        for block in _query_blocks(theta.shape[1]):
            out[:, block] = g @ _weights(theta[:, block], phi, scale).T
    return [y]


def _backward(arrays: Sequence[np.ndarray], *, use_scale: int) -> list[np.ndarray]:
    *inputs, _, d_y = arrays
    d_inputs = [np.empty_like(inputs[0]), np.zeros_like(inputs[1]), np.zeros_like(inputs[2])]
    scale = _scale(d_y.shape[1], use_scale)
    for theta, phi, g, d_out, d_theta, d_phi, d_g in _images([*inputs, d_y, *d_inputs]):
        for block in _query_blocks(theta.shape[1]):
            weights = _weights(theta[:, block], phi, scale)
            d_g += d_out[:, block] @ weights
            d_logits = d_out[:, block].T @ g
            d_logits -= (weights * d_logits).sum(axis=1, keepdims=True)
            d_logits *= weights
            d_logits *= scale
            d_theta[:, block] = phi @ d_logits.T
            d_phi += theta[:, block] @ d_logits
    return d_inputs


register(
    Operator(
        "EmbeddedGaussianAttention",
        embedded_gaussian_attention,
        ("theta", "phi", "g"),
        ("output",),
        reference_of(reference.embedded_gaussian_attention),
        reference_gradient_of(reference.embedded_gaussian_attention_gradient),
        LIBRA,
        python=PythonOperator(_forward, _backward),
        differentiable_inputs=ALL,
    )
)
