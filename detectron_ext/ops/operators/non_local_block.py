"""NonLocalBlock: attention between all positions of a map, added to the map."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops import library
from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.operators.embedded_gaussian_attention import embedded_gaussian_attention
from detectron_ext.ops.reference import non_local as reference
from detectron_ext.ops.table import (
    ALL,
    LIBRA,
    Operator,
    reference_gradient_of,
    reference_of,
    register,
)


def non_local_block(
    net: core.Net,
    x: Blob,
    output: Blob,
    *,
    theta: tuple[Blob, Blob],
    phi: tuple[Blob, Blob],
    g: tuple[Blob, Blob],
    out: tuple[Blob, Blob],
    use_scale: bool = False,
) -> core.BlobReference:
    """Add NonLocalBlock: a map plus the attention between all its positions.

    This is the embedded-Gaussian non-local block (Non-local Neural Networks, section 3):

        output[:, :, p] = x[:, :, p] + out(sum_q softmax_q(theta(x)[p] . phi(x)[q]) * g(x)[q])

    The positions p and q run over the H * W cells of a map. On the CPU the native library has one
    operator for the whole block, NonLocalBlock. It has two more outputs, which its gradient needs;
    their names are `output` with "_averages" and with "_log_sums" at the end. In all other cases
    the block consists of four convolutions, EmbeddedGaussianAttention and a sum; the names of all
    their outputs begin with `output`.

    Args:
        net: the net to add to.
        x: (N, C, H, W) float32.
        output: name of the result, shaped as x.
        theta: filters (K, C, 1, 1) and biases (K) of the embedding of p.
        phi: filters (K, C, 1, 1) and biases (K) of the embedding of q.
        g: filters (K, C, 1, 1) and biases (K) of the values that are averaged.
        out: filters (C, K, 1, 1) and biases (C) of the last convolution.
        use_scale: divide the products by sqrt(K) before the softmax.

    Returns:
        The result.
    """
    if library.has_native("NonLocalBlock"):
        return add_operator(
            net,
            "NonLocalBlock",
            [x, *theta, *phi, *g, *out],
            [output, f"{output}_averages", f"{output}_log_sums"],
            use_scale=int(use_scale),
        )[0]

    engine = {"engine": "CUDNN"} if library.is_cuda_scope() else {}

    def convolve(source: Any, weights: tuple[Any, Any], name: str) -> Any:
        blobs = [source, *weights]
        return net.Conv(blobs, f"{output}_{name}", kernel=1, order="NCHW", **engine)

    attended = embedded_gaussian_attention(
        net,
        convolve(x, theta, "theta"),
        convolve(x, phi, "phi"),
        convolve(x, g, "g"),
        f"{output}_attended",
        use_scale=use_scale,
    )
    return net.Sum([x, convolve(attended, out, "out")], output)


register(
    Operator(
        "NonLocalBlock",
        non_local_block,
        ("x", "theta", "phi", "g", "out"),
        ("output",),
        reference_of(reference.non_local_block),
        reference_gradient_of(reference.non_local_block_gradient),
        LIBRA,
        has_cuda=False,
        differentiable_inputs=ALL,
    )
)
