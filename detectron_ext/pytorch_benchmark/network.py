"""RetinaNet on EfficientNet-Lite0 in PyTorch, with the layers that this project builds.

The shapes are those of `detectron_ext.modeling.efficientnet` and of a RetinaNet with GroupNorm in
its pyramid and head. Affine layers are frozen, and so are the first stages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

# Rows of a stage: repeats, kernel, stride of the first block, expansion, channels.
_STAGES = (
    ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24)),
    ((2, 5, 2, 6, 40),),
    ((3, 3, 2, 6, 80), (3, 5, 1, 6, 112)),
    ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
_STEM_DIM = 32
_PYRAMID_DIMS = (40, 112, 320)
_NUM_GROUPS = 32
_PRIOR = 0.01


@dataclass(frozen=True)
class Shape:
    """The sizes of a RetinaNet.

    Attributes:
        dim: channels of the pyramid and of the head.
        num_convs: convolutions in each tower of the head.
        num_classes: classes without the background.
        num_anchors: anchors at each position.
        frozen_stages: how many of the four stages are not trained; the stem counts to the first.
    """

    dim: int = 64
    num_convs: int = 2
    num_classes: int = 6
    num_anchors: int = 9
    frozen_stages: int = 1


class _Affine(nn.Module):
    """What is left of a frozen BatchNorm: a scale and a bias for each channel."""

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dim, 1, 1))
        self.register_buffer("bias", torch.zeros(1, dim, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.bias, x, self.scale)


class _ConvAffine(nn.Module):
    """A convolution with TensorFlow's SAME padding, a frozen affine layer, and ReLU6 or nothing."""

    def __init__(self, dims: tuple, kernel: int, stride: int = 1, groups: int = 1, rectify=True):
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(dims[0], dims[1], kernel, stride, padding, groups=groups, bias=False)
        self.affine = _Affine(dims[1])
        self.rectify = rectify
        before = (kernel - 2) // 2
        self.uneven = (before, kernel - 1 - before) * 2 if stride == 2 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, self.uneven) if self.uneven else x
        x = self.affine(self.conv(x))
        return functional.relu6(x, inplace=True) if self.rectify else x


class _Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, dims: tuple, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * dims[0]
        layers = [_ConvAffine((dims[0], inner), 1)] if expansion > 1 else []
        layers.append(_ConvAffine((inner, inner), kernel, stride, groups=inner))
        layers.append(_ConvAffine((inner, dims[1]), 1, rectify=False))
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and dims[0] == dims[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + x if self.has_shortcut else self.layers(x)


def _stages() -> nn.ModuleList:
    stages: list[nn.Module] = []
    dim_in = _STEM_DIM
    for rows in _STAGES:
        blocks: list[nn.Module] = [] if stages else [_ConvAffine((3, _STEM_DIM), 3, 2)]
        for repeats, kernel, first_stride, expansion, dim in rows:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                blocks.append(_Block((dim_in, dim), kernel, stride, expansion))
                dim_in = dim
        stages.append(nn.Sequential(*blocks))
    return nn.ModuleList(stages)


def _conv_norm(dim_in: int, dim: int, kernel: int, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(dim_in, dim, kernel, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(_NUM_GROUPS, dim))


class RetinaNet(nn.Module):
    """The network: images to class logits and box deltas of five pyramid levels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim, self.frozen = shape.dim, shape.frozen_stages
        self.stages = _stages()
        for parameter in self.stages[: self.frozen].parameters():
            parameter.requires_grad = False
        self.lateral = nn.ModuleList(_conv_norm(each, dim, 1) for each in _PYRAMID_DIMS)
        self.output = nn.ModuleList(_conv_norm(dim, dim, 3) for _ in _PYRAMID_DIMS)
        self.p6 = nn.Conv2d(_PYRAMID_DIMS[-1], dim, 3, 2, 1)
        self.p7 = nn.Conv2d(dim, dim, 3, 2, 1)
        self.class_tower, self.box_tower = (
            nn.Sequential(
                *(
                    layer
                    for _ in range(shape.num_convs)
                    for layer in (_conv_norm(dim, dim, 3, bias=True), nn.ReLU(inplace=True))
                )
            )
            for _ in range(2)
        )
        self.classes = nn.Conv2d(dim, shape.num_anchors * shape.num_classes, 3, padding=1)
        self.boxes = nn.Conv2d(dim, shape.num_anchors * 4, 3, padding=1)
        assert self.classes.bias is not None
        nn.init.constant_(self.classes.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (class logits, box deltas) of P3 to P7 for images (N, 3, H, W)."""
        levels = self._pyramid(self._body(images))
        return [(self.classes(self.class_tower(x)), self.boxes(self.box_tower(x))) for x in levels]

    def _body(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        with torch.no_grad():
            for stage in self.stages[: self.frozen]:
                x = stage(x)
                maps.append(x)
        for stage in self.stages[self.frozen :]:
            x = stage(x)
            maps.append(x)
        return maps[1:]

    def _pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        inner = [lateral(x) for lateral, x in zip(self.lateral, maps)]
        for fine in (1, 0):
            inner[fine] = inner[fine] + functional.interpolate(inner[fine + 1], scale_factor=2)
        p6 = self.p6(maps[-1])
        return [
            *(output(x) for output, x in zip(self.output, inner)),
            p6,
            self.p7(functional.relu(p6)),
        ]
