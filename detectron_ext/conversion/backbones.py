"""Conversion of backbones that other programs trained on ImageNet."""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.conversion.efficientnet import convert_efficientnet_lite0
from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import UserError
from detectron_ext.registry import Registry


class Source(NamedTuple):
    """A kind of checkpoint that holds a backbone, and how it is converted.

    Attributes:
        convert: a function (TensorSource) -> blobs: Detectron's blob name to array. It raises
            WeightsError if the tensors are of another network.
        unused: prefixes of the names of tensors that a detector does not need.
        settings: dotted configuration key to the value that the backbone needs.
    """

    convert: Callable[[TensorSource], dict]
    unused: tuple[str, ...]
    settings: dict[str, Any]


SOURCES: Registry[Source] = Registry("--from", "a Source", lambda part: isinstance(part, Source))
"""Sources by name: the choices of --from of tools/convert_backbone.py."""

SOURCES.register("efficientnet_lite")(
    Source(
        convert_efficientnet_lite0,
        unused=("_conv_head.", "_bn1.", "_fc."),
        settings={
            "MODEL.CONV_BODY": "FPN.add_fpn_EfficientNetLite0_conv5_body",
            "PIXEL_MEANS": [[[127.0, 127.0, 127.0]]],
        },
    )
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


def read_backbone(path: str, kind: str) -> Backbone:
    """Read and convert a checkpoint.

    Args:
        path: a ``.pth`` file. Only tensors are read; code in it is not run.
        kind: a name in `SOURCES`.

    Raises:
        WeightsError: the file cannot be read, or is of another network.
    """
    source = SOURCES.choose(kind)
    tensors = TensorSource(read_checkpoint(path).tensors, path, "is it of another network?")
    blobs = {
        name: np.ascontiguousarray(value, dtype=np.float32)
        for name, value in source.convert(tensors).items()
    }
    unused = tensors.finish(source.unused)
    broken = [name for name, blob in blobs.items() if not np.isfinite(blob).all()]
    if broken:
        tensors.refuse(f"its values are not finite, those of {broken[0]} for one")
    return Backbone(blobs, source.settings, tensors.num_taken, unused)


def convert_backbone(source: str, target: str, kind: str) -> Backbone:
    """Convert a checkpoint to a weights file for TRAIN.WEIGHTS.

    Args:
        source: the checkpoint (``.pth``).
        target: the weights file to write (``.pkl``).
        kind: a name in `SOURCES`.

    Raises:
        UserError: a file cannot be read or written.
    """
    if os.path.abspath(source) == os.path.abspath(target):
        raise UserError(f"--out {target} is the checkpoint itself; name another file")
    backbone = read_backbone(source, kind)
    pairs = [part for pair in backbone.settings.items() for part in pair]
    stored = configuration.dump_legacy_yaml(configuration.load(None, pairs))
    write_weights(target, Weights(backbone.blobs, stored, None))
    return backbone
