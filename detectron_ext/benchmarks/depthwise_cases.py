"""Depthwise convolutions, and the Clip after them, at the sizes of EfficientNet-Lite0."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detectron_ext import ops
from detectron_ext.benchmarks.operator_case import OperatorCase, normal

_IMAGES = 4
# Channels, height and width at 320 pixels, kernel, stride.
_WINDOWS = [
    (32, 160, 3, 1),
    (96, 160, 3, 2),
    (144, 80, 3, 1),
    (144, 80, 5, 2),
    (240, 40, 5, 1),
    (240, 40, 3, 2),
    (480, 20, 5, 1),
    (672, 20, 5, 2),
    (1152, 10, 5, 1),
    (1152, 10, 3, 1),
]


def depthwise_cases(rng) -> list[OperatorCase]:
    """Return a case for each kind of window, largest maps first, and of the layers after it."""
    windows = (_convolution(rng, *window) for window in _WINDOWS)
    return [*windows, _clip(rng), _affine_clip(rng, fused=False), _affine_clip(rng, fused=True)]


def _convolution(rng, channels: int, size: int, kernel: int, stride: int) -> OperatorCase:
    inputs = {
        "x": normal(rng, _IMAGES, channels, size, size),
        "w": normal(rng, channels, 1, kernel, kernel) / kernel,
    }
    # TensorFlow's SAME padding: the larger part below and to the right.
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    window = {"kernel": kernel, "stride": stride, "pads": [before, before, after, after]}

    def eager(t):
        x, pad = t["x"], before
        if before != after:  # conv2d knows no uneven padding
            x, pad = F.pad(x, (before, after, before, after)), 0
        return [F.conv2d(x, t["w"], None, stride, pad, groups=channels)]

    return OperatorCase(
        "Conv, depthwise",
        f"{_IMAGES}x{channels}x{size}x{size}, {kernel}x{kernel} stride {stride}",
        inputs,
        lambda net: [net.Conv(["x", "w"], "y", group=channels, order="NCHW", no_bias=1, **window)],
        eager,
        tuple(inputs),
    )


def _affine_clip(rng, fused: bool) -> OperatorCase:
    """Return frozen BatchNorm and ReLU6, as the two operators or as one."""
    shape = (_IMAGES, 96, 160, 160)
    inputs = {"x": 4 * normal(rng, *shape), "s": normal(rng, 96), "b": normal(rng, 96)}

    def layer(net):
        if fused:
            return [ops.affine_channel_clip(net, "x", "s", "b", "y", min=0.0, max=6.0)]
        return [net.Clip(net.AffineChannel(["x", "s", "b"], "y"), "y", min=0.0, max=6.0)]

    def eager(t):
        line = t["s"].reshape(-1, 1, 1) * t["x"] + t["b"].reshape(-1, 1, 1)
        return [torch.clamp(line, 0.0, 6.0)]

    name = "AffineChannelClip" if fused else "AffineChannel, Clip"
    return OperatorCase(name, "x".join(map(str, shape)), inputs, layer, eager, ("x",))


def _clip(rng) -> OperatorCase:
    shape = (_IMAGES, 96, 160, 160)
    return OperatorCase(
        "Clip",
        f"{'x'.join(map(str, shape))} to 0 ... 6",
        {"x": 4 * normal(rng, *shape)},
        lambda net: [net.Clip("x", "y", min=0.0, max=6.0)],
        lambda t: [torch.clamp(t["x"], 0.0, 6.0)],
        ("x",),
    )
