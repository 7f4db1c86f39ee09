"""From a configuration to a model: which parts, on which device. Nothing is run here."""

from __future__ import annotations

import re

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.balanced_pyramid import add_balanced_pyramid
from detectron_ext.modeling.devices import replica, usable_gpus
from detectron_ext.modeling.fpn import add_fpn_body
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.optimizer import (
    add_backward_pass,
    add_parameter_updates,
    share_gradient_memory,
)
from detectron_ext.modeling.resnet import RESNETS
from detectron_ext.modeling.retinanet import add_retinanet_heads, add_retinanet_losses

_BODY = re.compile(r"FPN\.add_fpn_(?P<network>\w+?)_conv5(?P<finest>_P2only)?_body")


def build_model(config, train: bool) -> DetectionModel:
    """Build the detector that MODEL.TYPE names.

    Args:
        config: a merged configuration.
        train: add losses, gradients and parameter updates; else the test-time outputs.

    Returns:
        A model helper: ``net`` and ``param_init_net`` are ready to run, on NUM_GPUS GPUs (as many
        as the machine has) or the CPU. At test time there is one replica.

    Raises:
        ConfigError: for a model type, body or setting that cannot be built.
    """
    num_gpus = usable_gpus(config)
    if not train:
        num_gpus = min(1, num_gpus)
    model = DetectionModel(config.MODEL.TYPE, config, train, num_gpus)
    add_detector = _detector(config.MODEL.TYPE)
    losses_by_replica = []
    for index in range(max(1, num_gpus)):
        with replica(index, num_gpus):
            losses_by_replica.append(add_detector(model))
    if train:
        add_backward_pass(model, losses_by_replica)
        add_parameter_updates(model)
        if config.MEMONGER:
            share_gradient_memory(model)
    _set_execution(model)
    _seed_initializers(model)
    return model


def _detector(model_type: str):
    if model_type not in _DETECTORS:
        known = ", ".join(sorted(_DETECTORS))
        raise ConfigError(f"MODEL.TYPE {model_type!r} is not one this builds: {known}")
    return _DETECTORS[model_type]


def add_conv_body(model: DetectionModel):
    """Add the body that MODEL.CONV_BODY names; returns its pyramid."""
    name = model.config.MODEL.CONV_BODY
    match = _BODY.fullmatch(name)
    if not match or match.group("network") not in RESNETS:
        known = ", ".join(f"FPN.add_fpn_{network}_conv5_body" for network in RESNETS)
        raise ConfigError(f"MODEL.CONV_BODY {name!r} is not one this builds: {known}")
    return add_fpn_body(model, RESNETS[match.group("network")], bool(match.group("finest")))


def _add_retinanet(model: DetectionModel) -> list:
    pyramid = add_conv_body(model)
    if model.config.LIBRA.BFP.ON:
        pyramid = add_balanced_pyramid(model, pyramid)
    add_retinanet_heads(model, pyramid)
    return add_retinanet_losses(model, pyramid.levels) if model.train else []


def _set_execution(model: DetectionModel) -> None:
    """GPU nets run as MODEL.EXECUTION_TYPE says; on the CPU each operator uses all threads, and
    running several at once would only make them compete."""
    proto = model.net.Proto()
    proto.type = model.config.MODEL.EXECUTION_TYPE if model.num_gpus else "simple"
    proto.num_workers = max(1, 4 * model.num_gpus)


def _seed_initializers(model: DetectionModel) -> None:
    """Give every initialiser a seed of its own: same RNG_SEED, same weights."""
    for index, operator in enumerate(model.param_init_net.Proto().op):
        operator.device_option.random_seed = (model.config.RNG_SEED * 1_000_003 + index) % 2**31


_DETECTORS = {"retinanet": _add_retinanet}
