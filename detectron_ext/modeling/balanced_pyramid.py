"""The balanced feature pyramid (Pang et al., CVPR 2019, section 3.2).

The levels are resized to one level's size and averaged; the average is refined; every level is
strengthened with the refined average, resized back. Because the rescaling and the averaging have no
parameters, only the refinement adds weights.
"""

from __future__ import annotations

from typing import Any, Callable

from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.registry import Registry

Refinement = Callable[[DetectionModel, Any, int], Any]

REFINEMENTS: Registry[Refinement] = Registry("LIBRA.BFP.REFINE_TYPE")
"""Refinements of the averaged level, by the names that LIBRA.BFP.REFINE_TYPE takes.

An entry is a function (model, blob, dim) -> blob:

- model: the model to add layers to; model.config is the configuration.
- blob: the average of the levels, float32 (N, dim, H, W). The function must not overwrite it.
- dim: its channels.
- returns a blob of the same shape, or ``blob`` itself. Every level gets it added.

Layers are added once for each GPU, so parameters need fixed names. Names that begin with ``bfp_``
cannot meet those of other parts.
"""

_XAVIER: tuple = ("XavierFill", {})
_SMALL = ("GaussianFill", {"std": 0.01})
_ZERO = ("ConstantFill", {"value": 0.0})


def add_balanced_pyramid(model: DetectionModel, pyramid: Pyramid) -> Pyramid:
    """Add the balanced pyramid after a feature pyramid.

    Args:
        model: LIBRA.BFP is used.
        pyramid: at least two levels.

    Returns:
        A pyramid of the same levels and sizes, blobs ``bfp_fpn<level>``.

    Raises:
        ConfigError: when LIBRA.BFP.REFINE_LEVEL is not a level of the pyramid, or the pyramid has
            one level.
    """
    settings = model.config.LIBRA.BFP
    if len(pyramid.levels) < 2:
        raise ConfigError(
            f"LIBRA.BFP.ON needs several pyramid levels, and {model.config.MODEL.CONV_BODY} gives "
            f"P{pyramid.levels[0]} alone: set it to False"
        )
    if settings.REFINE_LEVEL not in pyramid.levels:
        levels = ", ".join(map(str, pyramid.levels))
        level = settings.REFINE_LEVEL
        raise ConfigError(f"LIBRA.BFP.REFINE_LEVEL {level} is not a pyramid level: one of {levels}")
    refine_level = pyramid.levels.index(settings.REFINE_LEVEL)
    blobs = list(pyramid.blobs)
    gathered = ops.balanced_pyramid_gather(
        model.net, blobs, "bfp_gathered", refine_level=refine_level
    )
    refine = REFINEMENTS.choose(settings.REFINE_TYPE)
    refined = refine(model, gathered, pyramid.dim)
    outputs = [f"bfp_fpn{level}" for level in pyramid.levels]
    ops.balanced_pyramid_scatter(model.net, refined, blobs, outputs, refine_level=refine_level)
    return Pyramid(tuple(outputs), pyramid.levels, pyramid.dim)


@REFINEMENTS.register("none")
def _refine_none(model, blob, dim):
    """Leave the average as it is."""
    return blob


@REFINEMENTS.register("conv")
def _refine_conv(model, blob, dim):
    """One 3x3 convolution and a rectifier."""
    conv = model.conv(blob, "bfp_refine", dim, dim, 3, pad=1, weight_init=_XAVIER, bias_init=_ZERO)
    return model.relu(conv)


@REFINEMENTS.register("non_local")
def _refine_non_local(model, blob, dim):
    """Embedded-Gaussian non-local block (Wang et al., CVPR 2018), no channel reduction.

    The output convolution starts at zero, so that the block starts as the identity.
    """
    inits = {"theta": _SMALL, "phi": _SMALL, "g": _SMALL, "out": _ZERO}
    weights = {
        name: model.conv_parameters(f"bfp_{name}", dim, dim, 1, weight_init, _ZERO)
        for name, weight_init in inits.items()
    }
    return ops.non_local_block(model.net, blob, "bfp_refined", **weights)
