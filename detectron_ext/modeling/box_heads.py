"""Heads on regions of interest, by the names that FAST_RCNN.ROI_BOX_HEAD takes."""

from __future__ import annotations

from typing import Any, Callable, Tuple

from caffe2.python import brew

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.bodies import ResNetBody, resnet_body
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob, Fill
from detectron_ext.modeling.model import DetectionModel, group_norm_groups
from detectron_ext.modeling.resnet import add_stage
from detectron_ext.modeling.roi_features import add_roi_features
from detectron_ext.registry import Registry

Head = Callable[[DetectionModel, Pyramid], Tuple[Blob, int]]

HEADS: Registry[Head] = Registry("FAST_RCNN.ROI_BOX_HEAD", "a function", callable)
"""Heads on regions by the names that FAST_RCNN.ROI_BOX_HEAD takes.

An entry is a function (model, pyramid) -> (blob, dim):

- It pools the features of the R regions with
  ``modeling.roi_features.add_roi_features(model, pyramid, name)``. That gives a float32 blob
  (R, pyramid.dim, r, r) with r = FAST_RCNN.ROI_XFORM_RESOLUTION.
- It adds layers to the model.
- It returns the blob from which classes and boxes are predicted, (R, dim) or (R, dim, 1, 1), and
  the number of its channels.
"""

_MSRA: Fill = ("MSRAFill", {})
_ZERO: Fill = ("ConstantFill", {"value": 0.0})


def add_box_head(model: DetectionModel, pyramid: Pyramid) -> tuple[Blob, int]:
    """Add the head that FAST_RCNN.ROI_BOX_HEAD names.

    Returns:
        A blob, float32 (R, dim) or (R, dim, 1, 1), and dim.

    Raises:
        ConfigError: there is no such head, it does not suit the body, or it returns anything else.
    """
    name = model.config.FAST_RCNN.ROI_BOX_HEAD
    # Detectron's module of heads was called head_builder once, and old configurations name it so.
    present = name.replace("head_builder.", "fast_rcnn_heads.")
    result = HEADS.choose(present if present in HEADS else name)(model, pyramid)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ConfigError(
            f"FAST_RCNN.ROI_BOX_HEAD {name} must return (blob, dim), given {shown(result)}"
        )
    return result


@HEADS.register("fast_rcnn_heads.add_roi_2mlp_head")
def _add_2mlp_head(model: DetectionModel, pyramid: Pyramid) -> tuple[Blob, int]:
    """Add two fully connected layers with rectifiers (FPN, section 4.2)."""
    blob = add_roi_features(model, pyramid, "roi_feat")
    dim_in = pyramid.dim * model.config.FAST_RCNN.ROI_XFORM_RESOLUTION**2
    dim = model.config.FAST_RCNN.MLP_HEAD_DIM
    blob = _add_fc(model, blob, "fc6", dim_in, dim)
    return _add_fc(model, blob, "fc7", dim, dim), dim


def _add_fc(model: DetectionModel, blob: Blob, name: str, dim_in: int, dim_out: int) -> Blob:
    return model.relu(brew.fc(model, blob, name, dim_in, dim_out))


def _add_conv_head(model: DetectionModel, pyramid: Pyramid, group_norm: bool) -> tuple[Blob, int]:
    """Add NUM_STACKED_CONVS 3x3 convolutions and one fully connected layer (GroupNorm, 4.2)."""
    settings = model.config.FAST_RCNN
    blob = add_roi_features(model, pyramid, "roi_feat")
    dim_in, dim = pyramid.dim, settings.CONV_HEAD_DIM
    for index in range(settings.NUM_STACKED_CONVS):
        options: dict[str, Any] = {"pad": 1, "weight_init": _MSRA, "bias_init": _ZERO}
        name = f"head_conv{index + 1}"
        if group_norm:
            groups = group_norm_groups(dim, model.config)
            blob = model.conv_gn(blob, name, dim_in, dim, 3, groups=groups, **options)
        else:
            blob = model.conv(blob, name, dim_in, dim, 3, **options)
        blob = model.relu(blob)
        dim_in = dim
    fc_dim = settings.MLP_HEAD_DIM
    dim_in *= settings.ROI_XFORM_RESOLUTION**2
    return _add_fc(model, blob, "fc6", dim_in, fc_dim), fc_dim


@HEADS.register("fast_rcnn_heads.add_roi_Xconv1fc_head")
def _add_plain_conv_head(model: DetectionModel, pyramid: Pyramid) -> tuple[Blob, int]:
    return _add_conv_head(model, pyramid, group_norm=False)


@HEADS.register("fast_rcnn_heads.add_roi_Xconv1fc_gn_head")
def _add_group_norm_conv_head(model: DetectionModel, pyramid: Pyramid) -> tuple[Blob, int]:
    return _add_conv_head(model, pyramid, group_norm=True)


def _body_without_res5(config: Settings) -> ResNetBody:
    head, name = config.FAST_RCNN.ROI_BOX_HEAD, config.MODEL.CONV_BODY
    body = resnet_body(config)
    if body is None:
        raise ConfigError(
            f"FAST_RCNN.ROI_BOX_HEAD {head} is the last stage of a ResNet, and MODEL.CONV_BODY "
            f"{name} is no ResNet: choose another head"
        )
    if body.last_stage > 4:
        raise ConfigError(
            f"FAST_RCNN.ROI_BOX_HEAD {head} is res5, and MODEL.CONV_BODY {name} has res5 already: "
            "choose a conv4 body or another head"
        )
    return body


@HEADS.register("ResNet.add_ResNet_roi_conv5_head")
def _add_res5_head(model: DetectionModel, pyramid: Pyramid) -> tuple[Blob, int]:
    """Add stage 5 of the residual network (ResNet, appendix A).

    It works on the 7x7 or 14x14 features of each region. The body must end in stage 4.
    """
    network = _body_without_res5(model.config).network
    resolution = model.config.FAST_RCNN.ROI_XFORM_RESOLUTION
    if resolution not in (7, 14):
        raise ConfigError(
            f"FAST_RCNN.ROI_XFORM_RESOLUTION {resolution} does not suit the res5 head: use 7 or 14"
        )
    blob = add_roi_features(model, pyramid, "pool5")
    blob, dim = add_stage(model, network, 5, blob, pyramid.dim, stride=resolution // 7, dilation=1)
    return brew.average_pool(model, blob, "res5_pool", kernel=7), dim
