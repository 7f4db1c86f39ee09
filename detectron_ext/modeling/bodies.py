"""The networks that compute feature maps, by the names that MODEL.CONV_BODY takes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Callable

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.efficientnet import add_efficientnet
from detectron_ext.modeling.fpn import Pyramid, add_fpn
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.resnet import RESNETS, ResNetSpec, add_resnet, highest_level
from detectron_ext.registry import Registry

Body = Callable[[DetectionModel], Pyramid]

BODIES: Registry[Body] = Registry("MODEL.CONV_BODY", "a function", callable)
"""Bodies by the names that MODEL.CONV_BODY takes.

An entry is a function (model) -> `Pyramid`. It adds layers to the model, starting from the blob
``data``, float32 (N, 3, H, W). It returns a feature pyramid, or `one_map` for a body without one.

- With FPN.FPN_ON, images are padded to multiples of FPN.COARSEST_STRIDE. The map of level l must
  then have exactly H / 2**l rows and W / 2**l columns.
- FPN.FPN_ON must be True for a pyramid and False for one map; this is checked.
- ``modeling.fpn.add_fpn`` makes the pyramid from maps of strides 4, 8, 16 and 32.
- In training TRAIN.FREEZE_AT must be 0. Exception: a function with the attribute
  ``freezes_stages = True`` stops the gradient after the stage that the key names.
"""


@dataclass(frozen=True)
class ResNetBody:
    """One of Detectron's bodies: a residual network, alone or with a feature pyramid on top.

    Attributes:
        network: the residual network.
        last_stage: the last stage of the network, 4 or 5.
        has_pyramid: whether a feature pyramid follows.
        finest_only: whether the pyramid keeps P2 only.
    """

    network: ResNetSpec
    last_stage: int
    has_pyramid: bool = False
    finest_only: bool = False
    freezes_stages = True

    def __call__(self, model: DetectionModel) -> Pyramid:
        """Add the body, and return its pyramid or its one map."""
        stages = add_resnet(model, self.network, last_stage=self.last_stage)
        if self.has_pyramid:
            return add_fpn(model, stages, self.finest_only)
        blob, dim = stages[-1]
        return one_map(blob, highest_level(model.config, self.last_stage), dim)


@dataclass(frozen=True)
class EfficientNetBody:
    """EfficientNet-Lite0, alone or with a feature pyramid on it.

    Attributes:
        last_stage: stage, 4 or 5, that the network ends in.
        has_pyramid: whether a pyramid follows.
        finest_only: keep P2 of the pyramid alone.
    """

    last_stage: int
    has_pyramid: bool = False
    finest_only: bool = False
    freezes_stages = True

    def __call__(self, model: DetectionModel) -> Pyramid:
        """Add the body; returns its pyramid or its one map."""
        stages = add_efficientnet(model, last_stage=self.last_stage)
        if self.has_pyramid:
            return add_fpn(model, stages, self.finest_only)
        blob, dim = stages[-1]
        return one_map(blob, self.last_stage, dim)


def one_map(blob: str, level: int, dim: int) -> Pyramid:
    """Return the result of a body without a pyramid.

    Args:
        blob: unscoped name of the map, float32 (N, dim, H, W).
        level: base-2 logarithm of the map's stride in pixels.
        dim: number of its channels.
    """
    return Pyramid((blob,), (level,), dim, is_one_map=True)


def _register(package: str, name: str, body: Callable[..., Body]) -> None:
    """Register a network's bodies: with a pyramid, with P2 of it alone, and without one."""
    with_pyramid = f"FPN.add_fpn_{name}_conv5"
    BODIES.register(with_pyramid + "_body")(body(5, has_pyramid=True))
    BODIES.register(with_pyramid + "_P2only_body")(body(5, has_pyramid=True, finest_only=True))
    for last in (4, 5):
        BODIES.register(f"{package}.add_{name}_conv{last}_body")(body(last))


for _name, _network in RESNETS.items():
    _register("ResNet", _name, functools.partial(ResNetBody, _network))
_register("EfficientNet", "EfficientNetLite0", EfficientNetBody)


def add_conv_body(model: DetectionModel) -> Pyramid:
    """Add the body that MODEL.CONV_BODY names.

    Returns:
        Its feature pyramid (a P2only body's has only the finest level), or the one map of a body
        without a pyramid.

    Raises:
        ConfigError: there is no such body, it cannot freeze stages, or it returns no `Pyramid`.
    """
    config = model.config
    name = config.MODEL.CONV_BODY
    body = BODIES.choose(name)
    freezes = getattr(body, "freezes_stages", False)
    if model.train and config.TRAIN.FREEZE_AT and not freezes:
        raise ConfigError(
            f"TRAIN.FREEZE_AT {config.TRAIN.FREEZE_AT} freezes stages, and "
            f"MODEL.CONV_BODY {name} has none: set it to 0"
        )
    pyramid = body(model)
    if not isinstance(pyramid, Pyramid):
        raise ConfigError(f"MODEL.CONV_BODY {name} must return a Pyramid, given {shown(pyramid)}")
    if len(pyramid.blobs) != len(pyramid.levels) or not pyramid.levels:
        raise ConfigError(
            f"MODEL.CONV_BODY {name} must return a Pyramid with one level for each blob, given "
            f"{len(pyramid.blobs)} blobs and {len(pyramid.levels)} levels"
        )
    return pyramid


def resnet_body(config: Settings) -> ResNetBody | None:
    """Return the body that MODEL.CONV_BODY names, or None if it is not a residual network.

    Raises:
        ConfigError: there is no such body.
    """
    body = BODIES.choose(config.MODEL.CONV_BODY)
    return body if isinstance(body, ResNetBody) else None
