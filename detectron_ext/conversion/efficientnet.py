"""Conversion of the tensors of EfficientNet-Lite0 in PyTorch to the blobs of this project's body.

The tensors have the names of the package efficientnet-lite-pytorch, whose weights were converted
from TensorFlow. The two networks differ in more than names:

- Input: the network in PyTorch reads (pixel - 127) / 128 in the order red, green, blue. This
  project's body reads the pixel minus PIXEL_MEANS in the order blue, green, red, where PIXEL_MEANS
  must be 127. The factor 1 / 128 and the order of the channels are applied to ``stem_w``. Both pad
  with zeros, and in both a padded zero stands for the pixel value 127. The results are therefore
  the same at the borders, too.
- BatchNorm (epsilon 1e-3): it becomes a frozen scale and bias (`TensorSource.take_conv_bn`).
"""

from __future__ import annotations

import itertools

import numpy as np

from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.modeling.efficientnet import BLOCKS, STEM, STEM_DIM, Block

_EPSILON = 1e-3
_PIXEL_SCALE = 128.0


def convert_efficientnet_lite0(source: TensorSource) -> dict[str, np.ndarray]:
    """Take the tensors of the stem and of all blocks, and return the blobs of the body.

    Returns:
        Blob name to float64 array.

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
    """Return the convolutions of a block.

    Returns:
        Tuples (name of the convolution, name of its BatchNorm in PyTorch, shape of its weights).
    """
    inner, kernel = block.dim_inner, block.kernel
    layers = [
        ("expand", "_bn0", (inner, block.dim_in, 1, 1)),
        ("depthwise", "_bn1", (inner, 1, kernel, kernel)),
        ("project", "_bn2", (block.dim, inner, 1, 1)),
    ]
    return layers if block.expands else layers[1:]
