"""Loading of TRAIN.WEIGHTS: a weights file, or ImageNet weights of an installed package."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Sequence

from detectron_ext.conversion.backbones import read_backbone
from detectron_ext.conversion.installed import find_installed, is_imagenet
from detectron_ext.engine.parameters import (
    check_stored_settings,
    feed_parameters,
    initial_value,
    parameter_shapes,
    preserve,
    same_means,
    unknown_blobs,
    untrained_parameters,
)
from detectron_ext.engine.start_choice import choose_parameters
from detectron_ext.engine.start_report import report_choice
from detectron_ext.engine.weights_file import Weights, read_weights
from detectron_ext.errors import WeightsError
from detectron_ext.local_files import local_file

if TYPE_CHECKING:
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)


def load_start_weights(model: DetectionModel, classes: Sequence[str] | None = None) -> None:
    """Overwrite the parameters of a model with those that TRAIN.WEIGHTS names.

    Args:
        model: a model whose param_init_net has run. Its TRAIN.WEIGHTS is the path of a weights
            file, or imagenet://NAME with a key of `conversion.installed.INSTALLED` as NAME.
        classes: class names of the training data, background first; None if they are not known.

    Raises:
        ConfigError: NAME is not such a key.
        WeightsError: the weights cannot be read, are not installed or do not fit the model, or
            PIXEL_MEANS are not those that ImageNet weights need.
    """
    setting = model.config.TRAIN.WEIGHTS
    if is_imagenet(setting):
        _load_imagenet(model, setting, classes)
    else:
        path = local_weights(setting)
        start_from(model, read_weights(path), path, classes)


def _load_imagenet(model: DetectionModel, setting: str, classes: Sequence[str] | None) -> None:
    found = find_installed(setting)
    backbone = read_backbone(found.path, found.kind)
    _LOG.info(
        "%s: %d tensors of %s, package %s; not used: %s",
        setting, backbone.num_tensors, found.path, found.origin, ", ".join(backbone.unused),
    )  # fmt: skip
    start_from(model, Weights(backbone.blobs, None, None), setting, classes)
    means = backbone.settings["PIXEL_MEANS"]
    if not same_means(means, model.config.PIXEL_MEANS):
        now = model.config.PIXEL_MEANS.tolist()
        raise WeightsError(f"weights {setting} need PIXEL_MEANS {means}, but they are {now}")


def start_from(
    model: DetectionModel, weights: Weights, path: str, classes: Sequence[str] | None = None
) -> None:
    """Overwrite parameters of a model, as LIBRA.TRAIN.LOAD says, and log what was taken.

    Momenta are not taken. Under ``strict``, blobs that the model does not have are kept and saved
    with the model, as Detectron does.

    Args:
        model: a model whose param_init_net has run.
        weights: the content of a weights file.
        path: the file, for messages.
        classes: class names of the training data, background first; None if they are not known.

    Raises:
        WeightsError: the weights do not fit the model, or are not finite.
    """
    config = model.config
    shapes = parameter_shapes(model)
    choice = choose_parameters(
        config, shapes, functools.partial(initial_value, model), weights, path, classes
    )
    check_stored_settings(model, path, weights.cfg, choice.values)
    feed_parameters(model, path, choice.values)
    if config.LIBRA.TRAIN.LOAD == "strict":
        preserve(unknown_blobs(weights.blobs, shapes))
    untrained = untrained_parameters(model)
    report_choice(config, choice, weights, path, shapes, untrained, classes)


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
