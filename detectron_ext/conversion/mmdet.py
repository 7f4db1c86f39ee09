"""Conversion of mmdetection's checkpoints (versions 2 and 3) to weights files."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from detectron_ext import config as configuration
from detectron_ext.config import value_at
from detectron_ext.conversion.mmdet_blobs import ANCHORS, BlobConverter
from detectron_ext.conversion.mmdet_settings import CheckpointSettings, read_settings
from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.conversion.torch_checkpoint import read_checkpoint
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import UserError, WeightsError
from detectron_ext.shipped_files import CONFIGS

ARCHITECTURES = ("libra_retinanet_r50", "retinanet_r50", "libra_faster_rcnn_r50", "faster_rcnn_r50")


class Converted(NamedTuple):
    """A converted model.

    Attributes:
        blobs: Detectron's blob name to float32 array.
        overrides: KEY VALUE pairs that are needed in addition to configs/mmdet/<arch>.yaml. The
            list is often empty.
        classes: class names, background first; None if the checkpoint has none.
    """

    blobs: dict
    overrides: list
    classes: list | None


def config_path(arch: str) -> str:
    """Return the configuration file of an architecture."""
    return str(CONFIGS / "mmdet" / f"{arch}.yaml")


def convert_checkpoint(path: str, arch: str, style: str | None = None) -> Converted:
    """Convert a checkpoint of mmdetection.

    Args:
        path: a ``.pth`` file.
        arch: one of `ARCHITECTURES`.
        style: style of the backbone, "pytorch" or "caffe". None means the style that the meta data
            of the checkpoint name, or "pytorch" if they name none.

    Raises:
        WeightsError: the file cannot be read or is of another architecture.
    """
    checkpoint = read_checkpoint(path)
    settings = _with_style(read_settings(checkpoint.meta), style)
    source = TensorSource(checkpoint.tensors, path, "choose another --arch")
    converter = BlobConverter(source, settings)
    converter.add_detector("retinanet" in arch, arch.startswith("libra"))
    num_classes = _num_classes(converter.blobs)
    source.finish()
    changes = _config_changes(converter.blobs, settings, num_classes, path)
    classes = _class_names(settings, num_classes)
    return Converted(converter.blobs, _overrides(arch, changes), classes)


def _num_classes(blobs: dict) -> int:
    """Return the number of classes, the background included."""
    if "retnet_cls_pred_fpn3_b" in blobs:
        return len(blobs["retnet_cls_pred_fpn3_b"]) // ANCHORS + 1
    return len(blobs["cls_score_b"])


# The settings of the input that mmdetection uses with backbones of each style.
_BY_STYLE = {
    "pytorch": CheckpointSettings(),
    "caffe": CheckpointSettings(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), to_rgb=False),
}


def settings_of_style(style: str) -> CheckpointSettings:
    """Return the settings that mmdetection uses with backbones of a style."""
    return _BY_STYLE[style]._replace(style=style)


def _with_style(settings: CheckpointSettings, style: str | None) -> CheckpointSettings:
    if style is None or style == settings.style:
        return settings
    usual = _BY_STYLE[style]
    return settings._replace(style=style, mean=usual.mean, std=usual.std, to_rgb=usual.to_rgb)


def _config_changes(
    blobs: dict, settings: CheckpointSettings, num_classes: int, path: str
) -> dict[str, Any]:
    """Return the values of configuration keys that follow from the checkpoint, {KEY: value}.

    Args:
        blobs: the converted blobs by name.
        settings: settings of the checkpoint.
        num_classes: number of classes, including the background.
        path: file of the checkpoint, for messages.
    """
    means = settings.mean[::-1] if settings.to_rgb else settings.mean
    changes: dict[str, Any] = {
        "MODEL.NUM_CLASSES": num_classes,
        "PIXEL_MEANS": [[list(means)]],
        "RESNETS.STRIDE_1X1": settings.style == "caffe",
    }
    if "fpn_6_w" in blobs:
        if settings.extra_levels_on == "on_lateral":
            raise WeightsError(
                f"checkpoint {path}: P6 is made from a lateral map, which is not supported"
            )
        is_input = blobs["fpn_6_w"].shape[1] == 2048
        changes["LIBRA.FPN.EXTRA_LEVELS_ON"] = "input" if is_input else "output"
        changes["LIBRA.FPN.EXTRA_LEVELS_RELU"] = settings.extra_levels_relu
    changes.update(_level_changes(settings, "fpn_6_w" in blobs, "bfp_out_w" in blobs))
    return changes


def _level_changes(
    settings: CheckpointSettings, is_retinanet: bool, is_balanced: bool
) -> dict[str, Any]:
    """Return the values of keys of the anchors and of the balanced pyramid, {KEY: value}."""
    finest, node = (3, "RETINANET.") if is_retinanet else (2, "FPN.RPN_")
    changes: dict[str, Any] = {}
    if settings.anchor_scale is not None:
        key, factor = ("ANCHOR_SCALE", 1) if is_retinanet else ("ANCHOR_START_SIZE", 2**finest)
        changes[node + key] = settings.anchor_scale * factor
    if settings.anchor_ratios is not None:
        changes[node + "ASPECT_RATIOS"] = settings.anchor_ratios
    if is_balanced and settings.refine_level is not None:
        changes["LIBRA.BFP.REFINE_LEVEL"] = finest + settings.refine_level
    return changes


def _overrides(arch: str, changes: dict) -> list:
    """Return the KEY VALUE pairs whose values differ from those of the configuration file."""
    standard = configuration.load(config_path(arch))
    changed = configuration.load(
        config_path(arch), [part for pair in changes.items() for part in pair]
    )
    pairs: list = []
    for key, value in changes.items():
        before, after = value_at(standard, key), value_at(changed, key)
        if not _same(before, after):
            pairs += [key, value]
    return pairs


def _same(value: Any, other: Any) -> bool:
    equal = value == other
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def _class_names(settings: CheckpointSettings, num_classes: int) -> list | None:
    if settings.classes is None or len(settings.classes) != num_classes - 1:
        return None
    return ["__background__", *settings.classes]


def convert_mmdet_weights(source: str, target: str, arch: str, style: str | None = None) -> list:
    """Convert a checkpoint file of mmdetection to a weights file.

    Args:
        source: the checkpoint (``.pth``).
        target: the weights file to write (``.pkl``).
        arch, style: see :func:`convert_checkpoint`.

    Returns:
        KEY VALUE pairs that are needed in addition to configs/mmdet/<arch>.yaml. The list is often
        empty.

    Raises:
        UserError: a file cannot be read or written.
    """
    if os.path.abspath(source) == os.path.abspath(target):
        raise UserError(f"--out {target} is the checkpoint itself: name another file")
    converted = convert_checkpoint(source, arch, style)
    config = configuration.load(config_path(arch), converted.overrides)
    stored = configuration.dump_legacy_yaml(config)
    write_weights(target, Weights(converted.blobs, stored, converted.classes))
    return converted.overrides
