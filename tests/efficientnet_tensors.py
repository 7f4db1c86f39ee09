"""Random tensors of EfficientNet-Lite0 in PyTorch's names, and what that network makes of them.

Written from the network's description, apart from our own, which is compared with it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as functional

# Of every block: kernel, stride, expansion, channels in, channels.
_FIRST = [(3, 1, 1, 32, 16), (3, 2, 6, 16, 24), (3, 1, 6, 24, 24), (5, 2, 6, 24, 40)]
_MIDDLE = [(5, 1, 6, 40, 40), (3, 2, 6, 40, 80), (3, 1, 6, 80, 80), (3, 1, 6, 80, 80)]
_LAST = [(5, 1, 6, 80, 112), (5, 1, 6, 112, 112), (5, 1, 6, 112, 112), (5, 2, 6, 112, 192)]
_TOP = [(5, 1, 6, 192, 192)] * 3 + [(3, 1, 6, 192, 320)]
BLOCKS = _FIRST + _MIDDLE + _LAST + _TOP
STAGE_ENDS = (2, 4, 10, 15)  # the last blocks of the maps with strides 4, 8, 16 and 32
EPSILON = 1e-3


def random_tensors(seed: int = 0) -> dict:
    """Return name to float32 tensor: the network with its classifier of 10 classes."""
    rng = np.random.RandomState(seed)
    tensors: dict = {}

    def conv(name, *shape, gain=1.5):
        deviation = math.sqrt(gain / np.prod(shape[1:]))
        tensors[f"{name}.weight"] = rng.normal(0, deviation, shape)

    def norm(name, dim):
        tensors[f"{name}.weight"] = rng.uniform(0.7, 1.3, dim)
        tensors[f"{name}.bias"] = rng.uniform(-0.5, 1.0, dim)
        tensors[f"{name}.running_mean"] = rng.normal(0, 0.3, dim)
        tensors[f"{name}.running_var"] = rng.uniform(0.1, 1.5, dim)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for number, (kernel, _, expansion, dim_in, dim) in enumerate(BLOCKS):
        inner, prefix = expansion * dim_in, f"_blocks.{number}."
        if expansion > 1:
            conv(prefix + "_expand_conv", inner, dim_in, 1, 1)
            norm(prefix + "_bn0", inner)
        conv(prefix + "_depthwise_conv", inner, 1, kernel, kernel)
        norm(prefix + "_bn1", inner)
        conv(prefix + "_project_conv", dim, inner, 1, 1, gain=0.3)
        norm(prefix + "_bn2", dim)
    conv("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    tensors["_fc.weight"], tensors["_fc.bias"] = rng.normal(size=(10, 1280)), rng.normal(size=10)
    return {
        name: torch.from_numpy(np.asarray(value, "i8" if name.endswith("tracked") else "f4"))
        for name, value in tensors.items()
    }


def reference_maps(tensors: dict, image: np.ndarray) -> list:
    """Return the maps that the stages end in, float64 (C, rows, columns).

    Args:
        tensors: as of `random_tensors`.
        image: (rows, columns, 3) BGR, values of 0 to 255.
    """
    wide = {name: tensor.double() for name, tensor in tensors.items()}
    rgb = (np.asarray(image, np.float64)[:, :, ::-1] - 127) / 128
    x = torch.from_numpy(rgb.transpose(2, 0, 1)[None].copy())
    x = functional.relu6(_conv_norm(wide, x, "_conv_stem", "_bn0", stride=2))
    maps = []
    for number, (_, stride, expansion, dim_in, dim) in enumerate(BLOCKS):
        prefix, start = f"_blocks.{number}.", x
        if expansion > 1:
            x = functional.relu6(_conv_norm(wide, x, prefix + "_expand_conv", prefix + "_bn0"))
        x = _conv_norm(wide, x, prefix + "_depthwise_conv", prefix + "_bn1", stride, x.shape[1])
        x = _conv_norm(wide, functional.relu6(x), prefix + "_project_conv", prefix + "_bn2")
        if stride == 1 and dim_in == dim:
            x = x + start
        if number in STAGE_ENDS:
            maps.append(x[0].numpy())
    return maps


def _conv_norm(tensors, x, conv, norm, stride=1, groups=1):
    weight = tensors[f"{conv}.weight"]
    pads = [_same(size, weight.shape[-1], stride) for size in (x.shape[3], x.shape[2])]
    y = functional.conv2d(
        functional.pad(x, [*pads[0], *pads[1]]), weight, stride=stride, groups=groups
    )
    kinds = ("running_mean", "running_var", "weight", "bias")
    return functional.batch_norm(y, *[tensors[f"{norm}.{kind}"] for kind in kinds], eps=EPSILON)


def _same(size: int, kernel: int, stride: int) -> tuple:
    """TensorFlow's padding SAME: as little as gives ceil(size / stride), the smaller half first."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
