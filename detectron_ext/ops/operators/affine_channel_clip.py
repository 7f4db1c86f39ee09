"""AffineChannelClip: a fixed scale and bias for every channel, then limits."""

from __future__ import annotations

from caffe2.python import core

from detectron_ext.ops import library
from detectron_ext.ops.frontend import Blob, add_operator
from detectron_ext.ops.reference import affine as reference
from detectron_ext.ops.table import LIBRA, Operator, reference_gradient_of, reference_of, register


def affine_channel_clip(
    net: core.Net,
    x: Blob,
    scale: Blob,
    bias: Blob,
    output: Blob,
    *,
    min: float,
    max: float,
) -> core.BlobReference:
    """Add AffineChannelClip: min(max(scale * x + bias, min), max), channel by channel.

    With limits 0 and 6 this is frozen BatchNorm and ReLU6. On the CPU the native library has one
    operator for it. In all other cases it consists of Caffe2's own AffineChannel and Clip, and
    Clip works in place on `output`.

    Args:
        net: the net to add to.
        x: (N, C, ...) float32.
        scale: (C,) float32. It gets no gradient.
        bias: (C,) float32. It gets no gradient.
        output: name of the result, shaped as x. It may be the name of x.
        min: the lowest result.
        max: the highest result; not below min.

    Returns:
        The result.

    Raises:
        ValueError: `min` is above `max`, or one of them is not a number.
    """
    if not min <= max:
        raise ValueError(f"min must be at most max ({max!r}), not {min!r}")
    limits = {"min": float(min), "max": float(max)}
    if library.has_native("AffineChannelClip"):
        return add_operator(net, "AffineChannelClip", [x, scale, bias], [output], **limits)
    return net.Clip(net.AffineChannel([x, scale, bias], output), output, **limits)


register(
    Operator(
        "AffineChannelClip",
        affine_channel_clip,
        ("x", "scale", "bias"),
        ("output",),
        reference_of(reference.affine_channel_clip),
        reference_gradient_of(reference.affine_channel_clip_gradient),
        LIBRA,
        has_cuda=False,
    )
)
