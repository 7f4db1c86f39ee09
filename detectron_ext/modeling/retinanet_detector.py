"""RetinaNet (Lin et al., ICCV 2017): a body with a feature pyramid, and two heads on each level."""

from __future__ import annotations

from detectron_ext.errors import ConfigError
from detectron_ext.modeling.balanced_pyramid import add_balanced_pyramid
from detectron_ext.modeling.bodies import add_conv_body
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.retinanet import add_retinanet_heads, add_retinanet_losses


def add_retinanet(model: DetectionModel) -> list:
    """Add the detector's graph, and return the loss blobs; there are none at test time.

    Raises:
        ConfigError: parts that are not built here, or settings that contradict each other.
    """
    fpn = model.config.FPN
    if model.config.MODEL.RPN_ONLY:
        raise ConfigError("MODEL.RPN_ONLY needs an RPN, and RetinaNet has none: set it to False")
    if not fpn.FPN_ON:
        raise ConfigError("RetinaNet needs FPN.FPN_ON True: it pads images to fit the pyramid")
    pyramid = add_conv_body(model).between(fpn.RPN_MIN_LEVEL, fpn.RPN_MAX_LEVEL)
    if model.config.LIBRA.BFP.ON:
        pyramid = add_balanced_pyramid(model, pyramid)
    add_retinanet_heads(model, pyramid)
    return add_retinanet_losses(model, pyramid.levels) if model.train else []
