"""Conversion of weights files to checkpoints that mmdetection 3 loads."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.config import value_at
from detectron_ext.conversion.mmdet import config_path, settings_of_style
from detectron_ext.conversion.mmdet_blobs import TensorConverter
from detectron_ext.conversion.mmdet_settings import CheckpointSettings
from detectron_ext.conversion.tensor_source import TensorSource
from detectron_ext.engine.weights_file import Weights, read_weights
from detectron_ext.errors import UserError
from detectron_ext.output_files import replaced_file


def convert_to_mmdet(source: str, target: str, arch: str) -> dict[str, Any]:
    """Convert a weights file to a checkpoint of mmdetection 3.

    Args:
        source: a weights file (``.pkl``) of the architecture, with its configuration stored in it.
        target: the checkpoint to write (``.pth``).
        arch: one of `conversion.mmdet.ARCHITECTURES`.

    Returns:
        What mmdetection's configuration must say: dotted name to value.

    Raises:
        UserError: a file cannot be read or written, or the weights are of another architecture.
    """
    if os.path.abspath(source) == os.path.abspath(target):
        raise UserError(f"--out {target} is the weights file itself: name another file")
    weights = read_weights(source)
    settings = _settings(weights, arch)
    blobs = {name: blob for name, blob in weights.blobs.items() if _is_parameter(name)}
    tensors = TensorSource(blobs, source, "choose another --arch", kind="weights")
    converter = TensorConverter(tensors, settings)
    converter.add_detector("retinanet" in arch, arch.startswith("libra"))
    tensors.finish(("fc1000_",))
    needed = _needed(settings, arch)
    _write(target, converter.tensors, _meta(settings, arch))
    return needed


def _is_parameter(name: str) -> bool:
    return not name.endswith("_momentum")


def _settings(weights: Weights, arch: str) -> CheckpointSettings:
    """Return the settings of the stored configuration; without one, those of the architecture."""
    tree: Any = configuration.load(config_path(arch))
    if weights.cfg is not None:
        tree = configuration.load_legacy_yaml(weights.cfg)

    def value(key: str) -> Any:
        return value_at(tree, key)

    style = "caffe" if value("RESNETS.STRIDE_1X1") else "pytorch"
    usual = settings_of_style(style)
    means = [float(mean) for mean in np.asarray(value("PIXEL_MEANS")).ravel()]
    classes = weights.classes
    return usual._replace(
        mean=tuple(means[::-1] if usual.to_rgb else means),
        extra_levels_relu=bool(value("LIBRA.FPN.EXTRA_LEVELS_RELU")),
        extra_levels_on="on_" + value("LIBRA.FPN.EXTRA_LEVELS_ON"),
        refine_level=value("LIBRA.BFP.REFINE_LEVEL") - (3 if "retinanet" in arch else 2),
        classes=None if classes is None else tuple(classes[1:]),
    )


def _needed(settings: CheckpointSettings, arch: str) -> dict[str, Any]:
    """Return the values that mmdetection's configuration of the architecture must have."""
    needed: dict[str, Any] = {
        "model.data_preprocessor.mean": list(settings.mean),
        "model.data_preprocessor.std": list(settings.std),
        "model.data_preprocessor.bgr_to_rgb": settings.to_rgb,
        "model.backbone.style": settings.style,
    }
    if "retinanet" in arch:
        neck = "model.neck.0" if arch.startswith("libra") else "model.neck"
        needed[f"{neck}.add_extra_convs"] = settings.extra_levels_on
        needed[f"{neck}.relu_before_extra_convs"] = settings.extra_levels_relu
    if arch.startswith("libra"):
        needed["model.neck.1.refine_level"] = settings.refine_level
    return needed


def _meta(settings: CheckpointSettings, arch: str) -> dict[str, Any]:
    """Return meta data in mmdetection's form, so that the settings can be read back."""
    text = (
        f"model = dict(data_preprocessor=dict(mean={list(settings.mean)}, "
        f"std={list(settings.std)}, bgr_to_rgb={settings.to_rgb}), "
        f"backbone=dict(type='ResNet', depth=50, style='{settings.style}'), "
        f"neck=[dict(type='FPN', add_extra_convs='{settings.extra_levels_on}', "
        f"relu_before_extra_convs={settings.extra_levels_relu}), "
        f"dict(type='BFP', refine_level={settings.refine_level})])\n"
    )
    meta: dict[str, Any] = {"cfg": text}
    if settings.classes is not None:
        meta["dataset_meta"] = {"classes": list(settings.classes)}
    return meta


def _write(target: str, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    import torch  # its wheel brings Caffe2, so it is there

    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    with replaced_file(target) as stream:
        torch.save({"state_dict": state, "meta": meta}, f=stream)
