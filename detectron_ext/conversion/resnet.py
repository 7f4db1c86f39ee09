"""Conversion of residual networks that PyTorch programs trained on ImageNet.

Torchvision, timm, mmdetection (mmpretrain) and detectron2 have the same layers under different
names. From the tensors follow the depth, the groups of ResNeXt and the width of wide networks. Two
things do not follow from them and are known by program:

- Which convolution of a block has the stride: the 3x3 one ("pytorch") or the first 1x1 one
  ("caffe", in the networks that were converted from Caffe). Networks of detectron2 are of the
  second kind unless their name begins with "torchvision".
- The input. Networks of style "pytorch" read (pixel - mean) / std in the order red, green, blue.
  This project reads the pixel minus PIXEL_MEANS in the order blue, green, red, so std and the
  order of the channels are applied to ``conv1_w``. Networks of style "caffe" read blue, green, red,
  and std is 1. In all of them a padded zero stands for the mean colour, so the results are the same
  at the borders, too.

BatchNorm (epsilon 1e-5) becomes a frozen scale and bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.modeling.resnet import RESNETS, ResNetSpec

STYLES = ("pytorch", "caffe")

_EPSILON = 1e-5
_MEANS = (103.53, 116.28, 123.675)  # blue, green, red
_DEVIATIONS = (57.375, 57.12, 58.395)
_MOST_BLOCKS = 100  # of a stage


class Names(NamedTuple):
    """The names of a program's layers; ``{stage}`` counts from 1.

    Attributes:
        stem: the first convolution.
        block: beginning of the names of a block's layers, with ``{stage}`` and ``{block}``.
        shortcut: the convolution of the shortcut, after ``block``.
        is_norm_inside: whether a BatchNorm is part of its convolution (``conv1.norm``), not a layer
            beside it (``bn1``).
        first_stage: the number of the first stage in the program's names.
    """

    stem: str
    block: str
    shortcut: str
    is_norm_inside: bool
    first_stage: int

    def norm(self, conv: str) -> str:
        """Return the name of the BatchNorm after a convolution."""
        if self.is_norm_inside:
            return conv + ".norm"
        if conv.endswith("downsample.0"):
            return conv[:-1] + "1"
        head, _, number = conv.rpartition("conv")
        return f"{head}bn{number}"


TORCHVISION = Names("conv1", "layer{stage}.{block}.", "downsample.0", False, 1)
MMDET = Names("backbone.conv1", "backbone.layer{stage}.{block}.", "downsample.0", False, 1)
DETECTRON2 = Names(
    "backbone.bottom_up.stem.conv1", "backbone.bottom_up.res{stage}.{block}.", "shortcut", True, 2
)
DETECTRON2_ALONE = Names("stem.conv1", "res{stage}.{block}.", "shortcut", True, 2)


def convert_resnet(
    source: TensorSource, names: Names, style: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Take the tensors of a residual network.

    Args:
        source: the tensors.
        names: the names of their program.
        style: one of `STYLES`.

    Returns:
        Detectron's blob name to array, and dotted configuration key to the value that the network
        needs. MODEL.CONV_BODY is one of several bodies that fit.

    Raises:
        WeightsError: it is no residual network, or one without a body here. The message says what
            was found.
    """
    network = _Network(source, names)
    name, spec = network.find_spec()
    blobs = network.take_all(spec)
    if style == "pytorch":
        weight = blobs["conv1_w"][:, ::-1]
        blobs["conv1_w"] = weight / np.reshape(_DEVIATIONS, (1, 3, 1, 1))
    settings: dict[str, Any] = {
        "MODEL.CONV_BODY": f"FPN.add_fpn_{name}_conv5_body",
        "PIXEL_MEANS": [[list(_MEANS)]],
    }
    if spec.bottleneck:
        settings.update(
            {
                "RESNETS.STRIDE_1X1": style == "caffe",
                "RESNETS.NUM_GROUPS": network.groups,
                "RESNETS.WIDTH_PER_GROUP": network.width_per_group,
            }
        )
    return blobs, settings


class _Network:
    """The residual network of a checkpoint.

    Attributes:
        groups, width_per_group: of the 3x3 convolutions of the first stage.
    """

    def __init__(self, source: TensorSource, names: Names):
        self._source, self._names = source, names
        self.groups, self.width_per_group = 1, 64

    def find_spec(self) -> tuple[str, ResNetSpec]:
        """Return the network with as many blocks in every stage, and its name."""
        if not self._source.has(self._names.stem + ".weight"):
            self._source.refuse(
                f"it has no {self._names.stem}.weight, with which these networks begin: "
                "choose another --from"
            )
        blocks = tuple(self._count_blocks(stage) for stage in range(2, 6))
        is_bottleneck = self._source.has(self._conv(2, 0, "conv3") + ".weight")
        for name, spec in RESNETS.items():
            if (spec.blocks, spec.bottleneck, spec.width) == (blocks, is_bottleneck, 1.0):
                self._measure(spec)
                return name, spec
        kind = "bottleneck" if is_bottleneck else "basic"
        self._source.refuse(f"it has {blocks} {kind} blocks in its stages, as no body here has")

    def _conv(self, stage: int, block: int, layer: str) -> str:
        number = stage - 2 + self._names.first_stage
        return self._names.block.format(stage=number, block=block) + layer

    def _count_blocks(self, stage: int) -> int:
        count = 0
        while count < _MOST_BLOCKS and self._source.has(
            self._conv(stage, count, "conv1") + ".weight"
        ):
            count += 1
        return count

    def _measure(self, spec: ResNetSpec) -> None:
        """Find the groups and the width of the 3x3 convolutions."""
        if not spec.bottleneck:
            return
        name = self._conv(2, 0, "conv2") + ".weight"
        shape = self._source.shape(name)
        if len(shape) != 4 or 0 in shape or shape[0] % shape[1]:
            self._source.refuse(f"{name} has shape {shape}")
        self.groups = shape[0] // shape[1]
        self.width_per_group = shape[1]

    def take_all(self, spec: ResNetSpec) -> dict[str, np.ndarray]:
        """Take every tensor of the network and return the blobs."""
        self._blobs: dict[str, np.ndarray] = {}
        self._take(self._names.stem, "conv1", (64, 3, 7, 7), norm="res_conv1_bn")
        dim_in = spec.stem_dim
        for stage, (blocks, dim) in enumerate(zip(spec.blocks, spec.stage_dims), start=2):
            for block in range(blocks):
                self._take_block(spec, stage, block, dim_in, dim)
                dim_in = dim
        return self._blobs

    def _take_block(self, spec: ResNetSpec, stage: int, block: int, dim_in: int, dim: int) -> None:
        here = f"res{stage}_{block}_branch"
        if spec.bottleneck:
            inner = self.groups * self.width_per_group * 2 ** (stage - 2)
            shapes = [
                (inner, dim_in, 1, 1), (inner, inner // self.groups, 3, 3), (dim, inner, 1, 1)
            ]  # fmt: skip
        else:
            shapes = [(dim, dim_in, 3, 3), (dim, dim, 3, 3)]
        for number, (letter, shape) in enumerate(zip("abc", shapes), start=1):
            self._take(self._conv(stage, block, f"conv{number}"), f"{here}2{letter}", shape)
        if block == 0 and (dim_in != dim or stage > 2):
            there = self._conv(stage, block, self._names.shortcut)
            self._take(there, f"{here}1", (dim, dim_in, 1, 1))

    def _take(self, there: str, here: str, shape: tuple[int, ...], norm: str = "") -> None:
        weight, scale, bias = self._source.take_conv_bn(
            there, self._names.norm(there), _EPSILON, *shape
        )
        norm = norm or f"{here}_bn"
        self._blobs.update({f"{here}_w": weight, f"{norm}_s": scale, f"{norm}_b": bias})
