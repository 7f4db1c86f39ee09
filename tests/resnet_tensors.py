"""Random tensors of residual networks in the names of PyTorch programs, and their maps.

Written from the description of the networks (He et al., CVPR 2016; Xie et al., CVPR 2017), apart
from this project's body, which is compared with it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # red, green, blue


class Shape(NamedTuple):
    """Blocks of the stages, whether they are bottlenecks, groups, and channels of a group."""

    blocks: tuple
    bottleneck: bool = True
    groups: int = 1
    width: int = 64


SHAPES = {
    "ResNet18": Shape((2, 2, 2, 2), bottleneck=False),
    "ResNet34": Shape((3, 4, 6, 3), bottleneck=False),
    "ResNet50": Shape((3, 4, 6, 3)),
    "ResNet101": Shape((3, 4, 23, 3)),
    "ResNet152": Shape((3, 8, 36, 3)),
    "ResNeXt50": Shape((3, 4, 6, 3), groups=32, width=4),
    "wide ResNet50": Shape((3, 4, 6, 3), width=128),
}


def random_tensors(shape: Shape, seed: int = 0) -> dict:
    """Return name to float32 tensor, named as in torchvision, with a classifier of 10 classes."""
    rng = np.random.RandomState(seed)
    tensors: dict = {}

    def layer(conv, norm, *size, gain=2.0):
        tensors[f"{conv}.weight"] = rng.normal(0, np.sqrt(gain / np.prod(size[1:])), size)
        ranges = [("weight", 0.5, 1.0), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3),
                  ("running_var", 0.5, 1.5)]  # fmt: skip
        for kind, low, high in ranges:
            tensors[f"{norm}.{kind}"] = rng.uniform(low, high, size[0])
        tensors[f"{norm}.num_batches_tracked"] = np.array(7)

    layer("conv1", "bn1", 64, 3, 7, 7)
    dim_in = 64
    for stage, blocks in enumerate(shape.blocks):
        inner = shape.groups * shape.width * 2**stage
        dim = (256 if shape.bottleneck else 64) * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            if shape.bottleneck:
                sizes = [(inner, dim_in, 1, 1), (inner, inner // shape.groups, 3, 3),
                         (dim, inner, 1, 1)]  # fmt: skip
            else:
                sizes = [(dim, dim_in, 3, 3), (dim, dim, 3, 3)]
            for number, size in enumerate(sizes, start=1):
                layer(f"{name}.conv{number}", f"{name}.bn{number}", *size, gain=1.0)
            if block == 0 and (stage or dim_in != dim):
                layer(f"{name}.downsample.0", f"{name}.downsample.1", dim, dim_in, 1, 1, gain=1.0)
            dim_in = dim
    tensors["fc.weight"], tensors["fc.bias"] = rng.normal(0, 1, (10, dim_in)), np.zeros(10)
    return {
        name: torch.from_numpy(np.asarray(value, dtype=np.float32 if np.ndim(value) else np.int64))
        for name, value in tensors.items()
    }


def named_as(program: str, tensors: dict) -> dict:
    """Rename tensors from torchvision's names to those of another program."""
    return {_renamed(program, name): value for name, value in tensors.items()}


def _renamed(program: str, name: str) -> str:
    if program == "mmdet":
        return name.replace("fc.", "head.fc.") if name.startswith("fc.") else "backbone." + name
    if program != "detectron2" or name.startswith("fc."):
        return name
    name = re.sub(r"downsample\.0", "shortcut", re.sub(r"downsample\.1", "shortcut.norm", name))
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    name = re.sub(r"^layer(\d)", lambda match: f"res{int(match.group(1)) + 1}", name)
    return "backbone.bottom_up." + (name if name.startswith("res") else f"stem.{name}")


def reference_maps(shape: Shape, tensors: dict, image: np.ndarray, style: str) -> list:
    """Return the stages' maps of a BGR image in float64.

    Args:
        shape: the network.
        tensors: in torchvision's names.
        image: (height, width, 3) uint8; the sides are multiples of 32.
        style: "pytorch" (RGB, divided by the deviation, stride in the 3x3 convolution) or "caffe".
    """
    pixels = image - np.array(MEAN[::-1])
    pixels = pixels[:, :, ::-1] / DEVIATION if style == "pytorch" else pixels
    weights = {name: value.double() for name, value in tensors.items()}

    def layer(x, conv, norm, stride=1, groups=1):
        kernel = weights[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2, groups=groups)
        kinds = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(weights[f"{norm}.{kind}"] for kind in kinds), eps=1e-5)

    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
    x = functional.max_pool2d(functional.relu(layer(x, "conv1", "bn1", 2)), 3, 2, 1)
    maps = []
    for stage, blocks in enumerate(shape.blocks):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            convs = 3 if shape.bottleneck else 2
            strided = (1 if style == "caffe" else 2) if shape.bottleneck else 1
            y = x
            for number in range(1, convs + 1):
                y = layer(
                    y, f"{name}.conv{number}", f"{name}.bn{number}",
                    stride if number == strided else 1,
                    shape.groups if shape.bottleneck and number == 2 else 1,
                )  # fmt: skip
                y = functional.relu(y) if number < convs else y
            if f"{name}.downsample.0.weight" in weights:
                x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = functional.relu(x + y)
        maps.append(x[0].numpy())
    return maps
