"""Residual networks (He et al., CVPR 2016), also with ResNeXt's groups or GroupNorm.

Blob names are Detectron's: ``res3_1_branch2a_w`` is a weight of the first convolution of the
second block of stage 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from caffe2.python import brew

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.devices import unscoped
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel, group_norm_groups


@dataclass(frozen=True)
class ResNetSpec:
    """The properties in which residual networks differ.

    Attributes:
        blocks: number of residual blocks in each of the stages res2 to res5.
        bottleneck: True for blocks of 1x1, 3x3 and 1x1 convolutions, False for blocks of two 3x3
            convolutions (ResNet-18, ResNet-34).
        width: factor of the number of channels of every layer.
        group_norm: True always uses GroupNorm. None decides by RESNETS.STEM_FUNC, SHORTCUT_FUNC and
            TRANS_FUNC.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    width: float = 1.0
    group_norm: bool | None = None

    @property
    def stem_dim(self) -> int:
        """Number of channels after the stem."""
        return int(64 * self.width)

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Numbers of output channels of res2, res3, res4 and res5."""
        base = 256 if self.bottleneck else 64
        return tuple(int(base * 2**i * self.width) for i in range(4))


RESNETS = {
    "ResNet18": ResNetSpec((2, 2, 2, 2), bottleneck=False),
    "ResNet34": ResNetSpec((3, 4, 6, 3), bottleneck=False),
    "ResNet36_tiny": ResNetSpec((2, 3, 5, 2), width=0.25, group_norm=True),
    "ResNet50": ResNetSpec((3, 4, 6, 3)),
    "ResNet101": ResNetSpec((3, 4, 23, 3)),
    "ResNet152": ResNetSpec((3, 8, 36, 3)),
}

_GROUP_NORM_FUNCS = {
    "STEM_FUNC": {"basic_bn_stem": False, "basic_gn_stem": True},
    "SHORTCUT_FUNC": {"basic_bn_shortcut": False, "basic_gn_shortcut": True},
    "TRANS_FUNC": {"bottleneck_transformation": False, "bottleneck_gn_transformation": True},
}


def add_resnet(
    model: DetectionModel, spec: ResNetSpec, blob_in: Blob = "data", last_stage: int = 5
) -> list[tuple[str, int]]:
    """Add a residual network, from its stem to stage ``last_stage``.

    Args:
        model: gets the layers; RESNETS and TRAIN.FREEZE_AT of its configuration are used.
        spec: the network.
        blob_in: the images, float32 (N, 3, H, W).
        last_stage: 4 or 5.

    Returns:
        (unscoped blob name, number of channels) of res2, res3, ... in this order.

    Raises:
        ConfigError: RESNETS names an unknown part.
    """
    config = model.config
    blob, dim = _add_stem(model, spec, blob_in), spec.stem_dim
    stages = []
    for stage in range(2, last_stage + 1):
        dilation = config.RESNETS.RES5_DILATION if stage == 5 else 1
        stride = 2 if stage > 2 and dilation == 1 else 1
        blob, dim = add_stage(model, spec, stage, blob, dim, stride, dilation)
        if stage == config.TRAIN.FREEZE_AT:
            model.net.StopGradient(blob, blob)
        stages.append((unscoped(blob), dim))
    return stages


def highest_level(config: Settings, last_stage: int) -> int:
    """Return the pyramid level of a network's last map, whose stride is 2**level pixels."""
    return 4 if last_stage == 5 and config.RESNETS.RES5_DILATION > 1 else last_stage


def add_stage(
    model: DetectionModel,
    spec: ResNetSpec,
    stage: int,
    blob: Blob,
    dim_in: int,
    stride: int,
    dilation: int,
) -> tuple[Blob, int]:
    """Add the blocks of one stage.

    Args:
        model: gets the layers; RESNETS of its configuration is used.
        spec: the network.
        stage: number of the stage, 2 to 5.
        blob: input of the stage, float32 (N, dim_in, H, W).
        dim_in: number of input channels.
        stride: stride of the first block, in cells.
        dilation: dilation of the 3x3 convolutions, in cells.

    Returns:
        The output blob of the stage and the number of its channels.
    """
    index = stage - 2
    resnets = model.config.RESNETS
    dim_inner = int(resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * spec.width) * 2**index
    dim_out = spec.stage_dims[index]
    for number in range(spec.blocks[index]):
        block = _Block(
            spec, f"res{stage}_{number}", dim_in, dim_inner, dim_out,
            stride=stride if number == 0 else 1, dilation=dilation,
        )  # fmt: skip
        blob = _add_block(model, block, blob, keep_sum=number == spec.blocks[index] - 1)
        dim_in = dim_out
    return blob, dim_out


def _uses_group_norm(config: Settings, spec: ResNetSpec, part: str) -> bool:
    name = config.RESNETS[part]
    if name not in _GROUP_NORM_FUNCS[part]:
        known = ", ".join(_GROUP_NORM_FUNCS[part])
        raise ConfigError(f"unknown RESNETS.{part} {name!r}: one of {known}")
    return _GROUP_NORM_FUNCS[part][name] if spec.group_norm is None else spec.group_norm


def _add_normalized_conv(
    model: DetectionModel,
    part: str,
    spec: ResNetSpec,
    blob_in: Blob,
    prefix: str,
    dim_in: int,
    dim_out: int,
    kernel: int,
    *,
    in_place: bool = True,
    **options: Any,
) -> Blob:
    """Add a convolution and the normalisation that RESNETS.<part> or the network asks for."""
    if _uses_group_norm(model.config, spec, part):
        groups = group_norm_groups(dim_out, model.config, spec.width)
        return model.conv_gn(blob_in, prefix, dim_in, dim_out, kernel, groups=groups, **options)
    return model.conv_affine(blob_in, prefix, dim_in, dim_out, kernel, in_place=in_place, **options)


def _add_stem(model: DetectionModel, spec: ResNetSpec, blob_in: Blob) -> Blob:
    dim = spec.stem_dim
    # The gradient of the images is expensive, and nothing uses it.
    options: dict[str, Any] = {"stride": 2, "pad": 3, "no_gradient_to_input": 1}
    if _uses_group_norm(model.config, spec, "STEM_FUNC"):
        groups = group_norm_groups(dim, model.config, spec.width)
        blob = model.conv_gn(blob_in, "conv1", 3, dim, 7, groups=groups, **options)
    else:
        conv = model.conv(blob_in, "conv1", 3, dim, 7, no_bias=1, **options)
        blob = model.affine_channel(conv, "res_conv1_bn", dim, in_place=True)
    return brew.max_pool(model, model.relu(blob), "pool1", kernel=3, pad=1, stride=2)


class _Block(NamedTuple):
    """One residual block.

    Attributes:
        spec: the network.
        prefix: names of the block's blobs begin with it.
        dim_in: number of input channels.
        dim_inner: number of channels inside a bottleneck.
        dim_out: number of output channels.
        stride: stride of the block, in cells.
        dilation: dilation of the 3x3 convolutions, in cells.
    """

    spec: ResNetSpec
    prefix: str
    dim_in: int
    dim_inner: int
    dim_out: int
    stride: int
    dilation: int


def _add_block(model: DetectionModel, block: _Block, blob_in: Blob, keep_sum: bool) -> Blob:
    """Add a block. ``keep_sum`` writes the sum to a new blob ``<prefix>_sum``.

    Other blocks add in place, to save memory.
    """
    add_branch = _add_bottleneck if block.spec.bottleneck else _add_basic
    branch = add_branch(model, block, blob_in)
    shortcut = blob_in
    if block.dim_in != block.dim_out or block.stride != 1:
        shortcut = _add_normalized_conv(
            model, "SHORTCUT_FUNC", block.spec, blob_in, f"{block.prefix}_branch1",
            block.dim_in, block.dim_out, 1, stride=block.stride, in_place=False,
        )  # fmt: skip
    total = model.net.Sum([branch, shortcut], f"{block.prefix}_sum" if keep_sum else branch)
    return model.relu(total)


def _add_bottleneck(model: DetectionModel, block: _Block, blob_in: Blob) -> Blob:
    # In the original networks the first 1x1 convolution has the stride, in Torch's the 3x3 has it.
    stride_1x1, stride_3x3 = block.stride, 1
    if not model.config.RESNETS.STRIDE_1X1:
        stride_1x1, stride_3x3 = stride_3x3, stride_1x1
    inner = block.dim_inner

    def add(blob, letter, dim_from, dim_to, kernel, **options):
        name = f"{block.prefix}_branch2{letter}"
        return _add_normalized_conv(
            model, "TRANS_FUNC", block.spec, blob, name, dim_from, dim_to, kernel, **options
        )

    blob = model.relu(add(blob_in, "a", block.dim_in, inner, 1, stride=stride_1x1))
    blob = add(
        blob, "b", inner, inner, 3, stride=stride_3x3, pad=block.dilation,
        dilation=block.dilation, group=model.config.RESNETS.NUM_GROUPS,
    )  # fmt: skip
    # The gradient of the sum needs this output, so the normalisation must not overwrite it.
    return add(model.relu(blob), "c", inner, block.dim_out, 1, in_place=False)


def _add_basic(model: DetectionModel, block: _Block, blob_in: Blob) -> Blob:
    def add(blob, letter, dim_from, stride, in_place):
        name = f"{block.prefix}_branch2{letter}"
        return _add_normalized_conv(
            model, "TRANS_FUNC", block.spec, blob, name, dim_from, block.dim_out, 3,
            stride=stride, pad=block.dilation, dilation=block.dilation, in_place=in_place,
        )  # fmt: skip

    blob = model.relu(add(blob_in, "a", block.dim_in, block.stride, True))
    return add(blob, "b", block.dim_out, 1, False)
