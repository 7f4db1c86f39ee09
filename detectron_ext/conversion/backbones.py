"""Conversion of backbones that other programs trained on ImageNet."""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.conversion.efficientnet import convert_efficientnet_lite0
from detectron_ext.conversion.resnet import (
    DETECTRON2,
    DETECTRON2_ALONE,
    MMDET,
    STYLES,
    TORCHVISION,
    Names,
    convert_resnet,
)
from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import UserError
from detectron_ext.registry import Registry


class Source(NamedTuple):
    """A kind of checkpoint that holds a backbone, and how it is converted.

    Attributes:
        convert: a function (TensorSource, style) -> (blobs, settings): Detectron's blob name to
            array, and dotted configuration key to the value that the backbone needs. It raises
            WeightsError if the tensors are of another network.
        unused: prefixes of the names of tensors that a detector does not need.
        styles: the choices of --style, the usual one first; none if the networks differ in nothing
            that their tensors do not tell.
    """

    convert: Callable[[TensorSource, str], tuple[dict, dict[str, Any]]]
    unused: tuple[str, ...]
    styles: tuple[str, ...] = ()


SOURCES: Registry[Source] = Registry("--from", "a Source", lambda part: isinstance(part, Source))
"""Sources by name: the choices of --from of tools/convert_backbone.py."""

EFFICIENTNET_SETTINGS = {
    "MODEL.CONV_BODY": "FPN.add_fpn_EfficientNetLite0_conv5_body",
    "PIXEL_MEANS": [[[127.0, 127.0, 127.0]]],
}


def _efficientnet(tensors: TensorSource, style: str) -> tuple[dict, dict[str, Any]]:
    return convert_efficientnet_lite0(tensors), EFFICIENTNET_SETTINGS


def _register_resnets(
    name: str, names: Sequence[Names], unused: tuple[str, ...], styles: tuple[str, ...] = STYLES
) -> None:
    def convert(tensors: TensorSource, style: str) -> tuple[dict, dict[str, Any]]:
        fitting = [known for known in names if tensors.has(known.stem + ".weight")]
        return convert_resnet(tensors, (fitting or list(names))[0], style)

    SOURCES.register(name)(Source(convert, unused, styles))


SOURCES.register("efficientnet_lite")(
    Source(_efficientnet, unused=("_conv_head.", "_bn1.", "_fc."))
)
_register_resnets("torchvision", [TORCHVISION], ("fc.",))
_register_resnets("timm", [TORCHVISION], ("fc.",))
_register_resnets(
    "mmdet", [MMDET, TORCHVISION], ("fc.", "head.", "neck", "bbox_head.", "rpn_head.", "roi_head.")
)
_register_resnets(
    "detectron2",
    [DETECTRON2, DETECTRON2_ALONE],
    ("linear.", "fc.", "backbone.fpn_", "proposal_generator.", "roi_heads.", "head.", "pixel_"),
    STYLES[::-1],
)


class Backbone(NamedTuple):
    """A converted backbone.

    Attributes:
        blobs: Detectron's blob name to float32 array.
        settings: dotted configuration key to the value that the backbone needs. The value of
            MODEL.CONV_BODY is one of several bodies that fit.
        num_tensors: number of tensors of the checkpoint from which the blobs were made.
        unused: names of the tensors that were not used. They are those of the classifier.
    """

    blobs: dict
    settings: dict
    num_tensors: int
    unused: list


def read_backbone(path: str, kind: str, style: str | None = None) -> Backbone:
    """Read and convert a checkpoint.

    Args:
        path: a ``.pth``, ``.pt`` or ``.safetensors`` file. Only tensors are read; code in it is not
            run.
        kind: a name in `SOURCES`.
        style: one of the source's styles; None is the usual one.

    Raises:
        WeightsError: the file cannot be read, or is of another network.
    """
    source = SOURCES.choose(kind)
    if style and style not in source.styles:
        raise UserError(f"--style {style} has no meaning for --from {kind}: leave it out")
    style = style or (source.styles or ("",))[0]
    tensors = TensorSource(read_checkpoint(path).tensors, path, "is it of another network?")
    converted, settings = source.convert(tensors, style)
    blobs = {
        name: np.ascontiguousarray(value, dtype=np.float32) for name, value in converted.items()
    }
    unused = tensors.finish(source.unused)
    broken = [name for name, blob in blobs.items() if not np.isfinite(blob).all()]
    if broken:
        tensors.refuse(f"its values are not finite, those of {broken[0]} for one")
    return Backbone(blobs, settings, tensors.num_taken, unused)


def convert_backbone(source: str, target: str, kind: str, style: str | None = None) -> Backbone:
    """Convert a checkpoint to a weights file for TRAIN.WEIGHTS.

    Args:
        source: the checkpoint (``.pth``, ``.pt`` or ``.safetensors``).
        target: the weights file to write (``.pkl``).
        kind: a name in `SOURCES`.
        style: one of the source's styles; None is the usual one.

    Raises:
        UserError: a file cannot be read or written.
    """
    if os.path.abspath(source) == os.path.abspath(target):
        raise UserError(f"--out {target} is the checkpoint itself; name another file")
    backbone = read_backbone(source, kind, style)
    pairs = [part for pair in backbone.settings.items() for part in pair]
    stored = configuration.dump_legacy_yaml(configuration.load(None, pairs))
    write_weights(target, Weights(backbone.blobs, stored, None))
    return backbone
