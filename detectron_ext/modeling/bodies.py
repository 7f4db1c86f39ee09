"""From MODEL.CONV_BODY, a name of Detectron's, to the network that it stands for."""

from __future__ import annotations

import re

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.fpn import Pyramid, add_fpn_body
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.resnet import RESNETS, ResNetSpec, add_resnet, highest_level

_BODY = re.compile(
    r"FPN\.add_fpn_(?P<pyramid>\w+?)_conv5(?P<finest>_P2only)?_body"
    r"|ResNet\.add_(?P<plain>\w+?)_conv(?P<last>[45])_body"
)


def add_conv_body(model: DetectionModel) -> Pyramid:
    """Add the body that MODEL.CONV_BODY names.

    Returns:
        Its feature pyramid (of a P2only body the finest level), or the one map of a body without.

    Raises:
        ConfigError: when there is no such body.
    """
    spec = body_spec(model.config)
    if has_pyramid(model.config):
        return add_fpn_body(model, spec, bool(_match(model.config).group("finest")))
    last = last_stage(model.config)
    blob, dim = add_resnet(model, spec, last_stage=last)[-1]
    return Pyramid((blob,), (highest_level(model.config, last),), dim)


def body_spec(config) -> ResNetSpec:
    """The residual network in MODEL.CONV_BODY, with or without a pyramid.

    Raises:
        ConfigError: when there is no such body.
    """
    match = _match(config)
    return RESNETS[match.group("pyramid") or match.group("plain")]


def has_pyramid(config) -> bool:
    """Whether MODEL.CONV_BODY ends in a feature pyramid, if only in its finest level.

    Raises:
        ConfigError: when there is no such body.
    """
    return bool(_match(config).group("pyramid"))


def last_stage(config) -> int:
    """Stage of the residual network, 4 or 5, that MODEL.CONV_BODY ends in or with a pyramid on it.

    Raises:
        ConfigError: when there is no such body.
    """
    return int(_match(config).group("last") or 5)


def _match(config):
    name = config.MODEL.CONV_BODY
    match = _BODY.fullmatch(name)
    if not match or (match.group("pyramid") or match.group("plain")) not in RESNETS:
        raise ConfigError(
            f"MODEL.CONV_BODY {name!r} is not one this builds: FPN.add_fpn_<network>_conv5_body, "
            "FPN.add_fpn_<network>_conv5_P2only_body or ResNet.add_<network>_conv4_body, with "
            f"<network> one of {', '.join(RESNETS)}"
        )
    return match
