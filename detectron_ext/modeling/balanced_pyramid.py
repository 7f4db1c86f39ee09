"""The balanced feature pyramid (Pang et al., CVPR 2019, section 3.2).

All levels are resized to the size of one level and averaged. The average is refined, resized back
to the size of each level, and added to it. Resizing and averaging have no parameters, so only the
refinement adds weights.
"""

from __future__ import annotations

from typing import Callable

from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace

from detectron_ext import ops
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.registry import Registry

Refinement = Callable[[DetectionModel, Blob, int], Blob]

REFINEMENTS: Registry[Refinement] = Registry("LIBRA.BFP.REFINE_TYPE", "a function", callable)
"""Refinements of the averaged level, by the names that LIBRA.BFP.REFINE_TYPE takes.

An entry is a function (model, blob, dim) -> blob:

- model: the model that gets the layers; model.config is the configuration.
- blob: the average of the levels, float32 (N, dim, H, W). The function must not overwrite it.
- dim: number of its channels.
- returns a blob of the same shape, or ``blob`` itself. It is added to every level.

The function is called once for each GPU, so its blobs and parameters need fixed names. Names that
begin with ``bfp_`` do not collide with those of other parts.
"""

_XAVIER: tuple = ("XavierFill", {})
_SMALL = ("GaussianFill", {"std": 0.01})
_ZERO = ("ConstantFill", {"value": 0.0})


def add_balanced_pyramid(model: DetectionModel, pyramid: Pyramid) -> Pyramid:
    """Add the balanced pyramid after a feature pyramid.

    Args:
        model: gets the operators; LIBRA.BFP of its configuration is used.
        pyramid: at least two levels.

    Returns:
        A pyramid with the same levels and sizes. Its blobs are named ``bfp_fpn<level>``.

    Raises:
        ConfigError: LIBRA.BFP.REFINE_LEVEL is not a level of the pyramid, the pyramid has only one
            level, or the refinement returns a blob of another shape.
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
    refined = _refine(model, gathered, pyramid.dim)
    outputs = [f"bfp_fpn{level}" for level in pyramid.levels]
    ops.balanced_pyramid_scatter(model.net, refined, blobs, outputs, refine_level=refine_level)
    return Pyramid(tuple(outputs), pyramid.levels, pyramid.dim)


def _refine(model: DetectionModel, blob: Blob, dim: int) -> Blob:
    """Add the refinement that LIBRA.BFP.REFINE_TYPE names, and check what it returns."""
    name = model.config.LIBRA.BFP.REFINE_TYPE
    first, first_init = len(model.net.Proto().op), len(model.param_init_net.Proto().op)
    refined = REFINEMENTS.choose(name)(model, blob, dim)
    if not isinstance(refined, (core.BlobReference, str)):
        raise ConfigError(
            f"LIBRA.BFP.REFINE_TYPE {name} must return a blob, given {shown(refined)}"
        )
    parts = [
        caffe2_pb2.NetDef(op=model.param_init_net.Proto().op[first_init:]),
        caffe2_pb2.NetDef(op=model.net.Proto().op[first:]),
    ]
    given = [1, dim, 8, 8]
    shapes, _ = workspace.InferShapesAndTypes(
        [core.Net(part) for part in parts], blob_dimensions={str(blob): given}
    )
    # Caffe2 cannot tell the shapes after a Python operator: those are checked when the net runs.
    found = shapes.get(str(refined), given)
    if list(found) != given:
        raise ConfigError(
            f"LIBRA.BFP.REFINE_TYPE {name} must return a blob of its input's shape: an input of "
            f"shape {tuple(given)} gives {tuple(found)}"
        )
    return refined


@REFINEMENTS.register("none")
def _refine_none(model: DetectionModel, blob: Blob, dim: int) -> Blob:
    """Leave the average as it is."""
    return blob


@REFINEMENTS.register("conv")
def _refine_conv(model: DetectionModel, blob: Blob, dim: int) -> Blob:
    """Add one 3x3 convolution and a rectifier."""
    conv = model.conv(blob, "bfp_refine", dim, dim, 3, pad=1, weight_init=_XAVIER, bias_init=_ZERO)
    return model.relu(conv)


@REFINEMENTS.register("non_local")
def _refine_non_local(model: DetectionModel, blob: Blob, dim: int) -> Blob:
    """Add an embedded-Gaussian non-local block (Wang et al., CVPR 2018).

    It does not reduce the channels. With LIBRA.BFP.INIT identity its output convolution starts at
    zero, so the block starts as the identity. With xavier all four convolutions start at random.
    """
    is_identity = model.config.LIBRA.BFP.INIT == "identity"
    inner, last = (_SMALL, _ZERO) if is_identity else (_XAVIER, _XAVIER)

    def layer(name: str, weight_init: tuple) -> tuple:
        return model.conv_parameters(f"bfp_{name}", dim, dim, 1, weight_init, _ZERO)

    return ops.non_local_block(
        model.net, blob, "bfp_refined",
        theta=layer("theta", inner), phi=layer("phi", inner), g=layer("g", inner),
        out=layer("out", last),
    )  # fmt: skip
