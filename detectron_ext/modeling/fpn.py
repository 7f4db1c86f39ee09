"""Feature pyramid networks (Lin et al., CVPR 2017) on the maps of a network.

Blob names are Detectron's: ``fpn_res4_5_sum`` is P4 of a ResNet-50, ``fpn_6`` is P6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

from caffe2.python import brew

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.devices import unscoped
from detectron_ext.modeling.layers import Blob, Fill
from detectron_ext.modeling.model import DetectionModel, group_norm_groups

LOWEST_BACKBONE_LEVEL = 2
HIGHEST_BACKBONE_LEVEL = 5
_NUM_STAGES = HIGHEST_BACKBONE_LEVEL - LOWEST_BACKBONE_LEVEL + 1

MULTILEVEL_KEYS = {"RPN": "MULTILEVEL_RPN", "ROI": "MULTILEVEL_ROIS"}
_XAVIER: Fill = ("XavierFill", {})
_ZERO: Fill = ("ConstantFill", {"value": 0.0})


@dataclass(frozen=True)
class Pyramid:
    """The feature maps of pyramid levels, finest first.

    Attributes:
        blobs: unscoped names of the maps, each float32 (N, dim, H_l, W_l).
        levels: their pyramid levels. Level l has a stride of 2**l pixels.
        dim: number of channels of each map.
        is_one_map: whether this is the single map of a body without a pyramid.
    """

    blobs: tuple[str, ...]
    levels: tuple[int, ...]
    dim: int
    is_one_map: bool = False

    def between(self, lowest: int, highest: int) -> Pyramid:
        """Return the maps of levels ``lowest`` to ``highest``, both included.

        Raises:
            ConfigError: one of these levels is missing.
        """
        wanted = range(lowest, highest + 1)
        missing = [str(level) for level in wanted if level not in self.levels]
        if missing:
            raise ConfigError(
                f"the body has pyramid levels {', '.join(map(str, self.levels))} and the heads "
                f"need {', '.join(missing)}: change FPN's RPN and ROI levels, or MODEL.CONV_BODY"
            )
        blobs = tuple(self.blobs[self.levels.index(level)] for level in wanted)
        return Pyramid(blobs, tuple(wanted), self.dim)


def level_range(config: Settings) -> tuple[int, int]:
    """Return the lowest and the highest pyramid level that the heads in use need.

    Raises:
        ConfigError: all of these levels are coarser than the last map of the network.
    """
    fpn, top = config.FPN, HIGHEST_BACKBONE_LEVEL
    kinds = [kind for kind, key in MULTILEVEL_KEYS.items() if fpn[key]]
    if not kinds:
        return LOWEST_BACKBONE_LEVEL, top
    lowest = min(fpn[f"{kind}_MIN_LEVEL"] for kind in kinds)
    if lowest > top:
        keys = " or ".join(f"FPN.{kind}_MIN_LEVEL" for kind in kinds)
        raise ConfigError(
            f"all pyramid levels in use lie above {top}, the last level of the network itself: set "
            f"{keys} ({lowest}) to at most {top}"
        )
    return lowest, max(fpn[f"{kind}_MAX_LEVEL"] for kind in kinds)


def add_fpn(
    model: DetectionModel, stages: Sequence[tuple[str, int]], finest_only: bool = False
) -> Pyramid:
    """Add a feature pyramid on the maps of a network.

    Args:
        model: gets the layers; FPN of its configuration is used.
        stages: (unscoped blob name, number of channels) of the maps with strides 4, 8, 16 and 32,
            in this order. In a ResNet these are the outputs of res2 to res5.
        finest_only: return only the finest level, P2.

    Returns:
        The pyramid. Its blobs are named ``fpn_<name of the map>``, coarser ones ``fpn_<level>``.

    Raises:
        ConfigError: another number of maps, or levels or strides that make no pyramid.
    """
    config = model.config
    if len(stages) != _NUM_STAGES:
        raise ConfigError(
            f"MODEL.CONV_BODY {config.MODEL.CONV_BODY} must give add_fpn {_NUM_STAGES} maps, of "
            f"strides 4, 8, 16 and 32: it gives {shown(stages)}"
        )
    _check_strides(config)
    lowest, highest = level_range(config)
    backbone = {LOWEST_BACKBONE_LEVEL + i: stage for i, stage in enumerate(stages)}
    levels = [level for level in backbone if level >= lowest]
    inner = _add_top_down(model, [backbone[level] for level in levels])
    blobs = [
        _add_conv(model, inner_blob, f"fpn_{backbone[level][0]}", config.FPN.DIM, 3, pad=1)
        for level, inner_blob in zip(levels, inner)
    ]
    if highest > HIGHEST_BACKBONE_LEVEL:
        if config.FPN.EXTRA_CONV_LEVELS:
            sources = {"input": stages[-1], "output": (blobs[-1], config.FPN.DIM)}
            blob, dim = sources[config.LIBRA.FPN.EXTRA_LEVELS_ON]
            extra = _add_extra_levels(model, blob, dim, highest)
        elif highest == HIGHEST_BACKBONE_LEVEL + 1:
            extra = [_add_subsampled(model, blobs[-1])]
        else:
            extra = []
        blobs += extra
        levels += range(HIGHEST_BACKBONE_LEVEL + 1, HIGHEST_BACKBONE_LEVEL + 1 + len(extra))
    if finest_only:
        blobs, levels = blobs[:1], levels[:1]
    return Pyramid(tuple(map(unscoped, blobs)), tuple(levels), config.FPN.DIM)


def _check_strides(config: Settings) -> None:
    """Check that each map has exactly twice the rows and columns of the next coarser one."""
    if config.RESNETS.RES5_DILATION > 1:
        raise ConfigError(
            f"RESNETS.RES5_DILATION {config.RESNETS.RES5_DILATION} gives res5 the size of res4, "
            "which no pyramid fits: set it to 1, or choose a body without a pyramid"
        )
    stride, coarsest = config.FPN.COARSEST_STRIDE, 2**HIGHEST_BACKBONE_LEVEL
    if stride % coarsest:
        raise ConfigError(
            f"FPN.COARSEST_STRIDE {stride} leaves maps that do not fit each other: set it to a "
            f"multiple of {coarsest}"
        )


def _add_conv(
    model: DetectionModel,
    blob_in: Blob,
    name: str,
    dim_in: int,
    kernel: int,
    weight_init: Fill = _XAVIER,
    **options: Any,
) -> Blob:
    """Add a convolution of the pyramid, with GroupNorm if FPN.USE_GN."""
    dim = model.config.FPN.DIM
    options.update(weight_init=weight_init, bias_init=_ZERO)
    if model.config.FPN.USE_GN:
        groups = group_norm_groups(dim, model.config)
        return model.conv_gn(blob_in, name, dim_in, dim, kernel, groups=groups, **options)
    return model.conv(blob_in, name, dim_in, dim, kernel, **options)


def _add_top_down(model: DetectionModel, stages: Sequence[tuple[str, int]]) -> list[Blob]:
    """Add lateral 1x1 convolutions and the top-down path; return the merged maps, finest first."""
    lateral_init = _ZERO if model.config.FPN.ZERO_INIT_LATERAL else _XAVIER
    top_blob, top_dim = stages[-1]
    merged = [_add_conv(model, top_blob, f"fpn_inner_{top_blob}", top_dim, 1)]
    for blob, dim in reversed(stages[:-1]):
        name = f"fpn_inner_{blob}"
        lateral = _add_conv(model, blob, name + "_lateral", dim, 1, lateral_init)
        top_down = ops.upsample_nearest(model.net, merged[0], name + "_topdown", scale=2)
        merged.insert(0, model.net.Sum([lateral, top_down], name))
    return merged


def _add_extra_levels(model: DetectionModel, blob: Blob, dim: int, highest: int) -> list[Blob]:
    """Add P6 to P<highest> by strided convolutions, as in RetinaNet."""
    extra: list = []
    for level in range(HIGHEST_BACKBONE_LEVEL + 1, highest + 1):
        if extra and model.config.LIBRA.FPN.EXTRA_LEVELS_RELU:
            blob = brew.relu(model, blob, unscoped(blob) + "_relu")
        # Detectron builds these levels without GroupNorm even if FPN.USE_GN is set.
        blob = model.conv(
            blob, f"fpn_{level}", dim, model.config.FPN.DIM, 3,
            stride=2, pad=1, weight_init=_XAVIER, bias_init=_ZERO,
        )  # fmt: skip
        dim = model.config.FPN.DIM
        extra.append(blob)
    return extra


def _add_subsampled(model: DetectionModel, blob: Blob) -> Blob:
    """Add P6 as every second cell of P5, as in the FPN paper."""
    return brew.max_pool(model, blob, unscoped(blob) + "_subsampled_2x", kernel=1, pad=0, stride=2)
