"""The non-local block: attention between all positions of a map, added to the map."""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext.ops import library
from detectron_ext.ops.attention import embedded_gaussian_attention
from detectron_ext.ops.frontend import add_operator


def non_local_block(
    net: core.Net,
    x: Any,
    output: Any,
    *,
    theta: tuple[Any, Any],
    phi: tuple[Any, Any],
    g: tuple[Any, Any],
    out: tuple[Any, Any],
    use_scale: bool = False,
) -> core.BlobReference:
    """Add an embedded-Gaussian non-local block (Non-local Neural Networks, section 3).

    output[:, :, p] = x[:, :, p] + out(sum_q softmax_q(theta(x)[p] . phi(x)[q]) * g(x)[q])

    Natively on the CPU that is one operator, NonLocalBlock, which keeps two blobs for its
    gradient: `output` with "_averages" and with "_log_sums" at its end. Elsewhere it is four
    convolutions, EmbeddedGaussianAttention and a sum, whose blobs' names begin with `output` too.

    Args:
        x: (N, C, H, W) float32; p and q run over the H * W positions.
        output: name of the result.
        theta, phi, g: filters (K, C, 1, 1) and biases (K) of the embeddings of p and of q and of
            what is averaged.
        out: filters (C, K, 1, 1) and biases (C) of the convolution that makes it like x.
        use_scale: divide the products by sqrt(K) before the softmax.

    Returns:
        The result, (N, C, H, W).
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

    def convolve(source, weights, name):
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
