"""Loading of TRAIN.WEIGHTS: a weights file, or ImageNet weights of an installed package."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectron_ext.conversion.backbones import read_backbone
from detectron_ext.conversion.installed import find_installed, is_imagenet
from detectron_ext.engine.parameters import load_parameters, same_means, set_parameters
from detectron_ext.engine.weights_file import Weights
from detectron_ext.errors import WeightsError
from detectron_ext.local_files import local_file

if TYPE_CHECKING:
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)


def load_start_weights(model: DetectionModel) -> None:
    """Overwrite the parameters of a model with those that TRAIN.WEIGHTS names.

    Args:
        model: a model whose param_init_net has run. Its TRAIN.WEIGHTS is the path of a weights
            file, or imagenet://NAME with a key of `conversion.installed.INSTALLED` as NAME.

    Raises:
        ConfigError: NAME is not such a key.
        WeightsError: the weights cannot be read, are not installed or do not fit the model, or
            PIXEL_MEANS are not those that ImageNet weights need.
    """
    setting = model.config.TRAIN.WEIGHTS
    if is_imagenet(setting):
        _load_imagenet(model, setting)
    else:
        load_parameters(model, local_weights(setting))


def _load_imagenet(model: DetectionModel, setting: str) -> None:
    found = find_installed(setting)
    backbone = read_backbone(found.path, found.kind)
    _LOG.info(
        "%s: %d tensors of %s, package %s; not used: %s",
        setting, backbone.num_tensors, found.path, found.origin, ", ".join(backbone.unused),
    )  # fmt: skip
    set_parameters(model, Weights(backbone.blobs, None, None), setting)
    means = backbone.settings["PIXEL_MEANS"]
    if not same_means(means, model.config.PIXEL_MEANS):
        now = model.config.PIXEL_MEANS.tolist()
        raise WeightsError(f"weights {setting} need PIXEL_MEANS {means}, but they are {now}")


def local_weights(path: str) -> str:
    """Check that a value of TRAIN.WEIGHTS or TEST.WEIGHTS names a file on this machine.

    Raises:
        WeightsError: the value has the form imagenet://NAME, it is a URL (nothing is downloaded),
            or the file does not exist.
    """
    if is_imagenet(path):
        raise WeightsError(f"weights {path} are a backbone without a detector: set TRAIN.WEIGHTS")
    advice = "set TRAIN.WEIGHTS or TEST.WEIGHTS to the file (TRAIN.WEIGHTS '' trains from scratch)"
    return local_file(path, "weights", advice, WeightsError)
