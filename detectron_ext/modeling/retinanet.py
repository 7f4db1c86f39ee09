"""RetinaNet's heads and losses (Lin et al., ICCV 2017).

Two towers of convolutions run over every pyramid level, with the same weights on all levels. One
tower ends in class logits, the other in box regressions. Blob names are Detectron's.
"""

from __future__ import annotations

import math
from typing import Iterable, Sequence

import numpy as np

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.modeling.anchor_weights import add_class_weights, add_positive_weights
from detectron_ext.modeling.box_losses import add_box_loss
from detectron_ext.modeling.class_losses import add_class_loss
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob, Fill
from detectron_ext.modeling.model import DetectionModel, group_norm_groups
from detectron_ext.modeling.negative_weights import add_negative_weights
from detectron_ext.modeling.process_sums import add_sum
from detectron_ext.sampling.retinanet_targets import SAMPLER

_GAUSSIAN: Fill = ("GaussianFill", {"std": 0.01})
_ZERO: Fill = ("ConstantFill", {"value": 0.0})


def num_anchors(config: Settings) -> int:
    """Return the number of anchors at one position of one level."""
    return len(config.RETINANET.ASPECT_RATIOS) * config.RETINANET.SCALES_PER_OCTAVE


def add_retinanet_heads(model: DetectionModel, pyramid: Pyramid) -> None:
    """Add both heads, and at test time the class probabilities.

    Blobs of each level l, all float32: ``retnet_cls_pred_fpn<l>`` (N, A * classes, H, W), the
    logits; ``retnet_bbox_pred_fpn<l>`` (N, A * 4, H, W); and ``retnet_cls_prob_fpn<l>``, of the
    shape of the logits. With RETINANET.CLASS_SPECIFIC_BBOX each class has its own four channels.
    """
    config = model.config
    foreground = config.MODEL.NUM_CLASSES - 1
    class_dim = foreground + 1 if config.RETINANET.SOFTMAX else foreground
    box_dim = 4 * foreground if config.RETINANET.CLASS_SPECIFIC_BBOX else 4
    anchors = num_anchors(config)

    features = _add_towers(model, pyramid, "retnet_cls_conv")
    _add_predictions(
        model, features, pyramid, "retnet_cls_pred", class_dim * anchors, _prior_bias(config)
    )
    if not model.train:
        _add_probabilities(model, pyramid.levels, class_dim)
    if not config.RETINANET.SHARE_CLS_BBOX_TOWER:
        features = _add_towers(model, pyramid, "retnet_bbox_conv")
    _add_predictions(model, features, pyramid, "retnet_bbox_pred", box_dim * anchors, _ZERO)


def _prior_bias(config: Settings) -> Fill:
    """Return the initial bias of the logits.

    With it every anchor starts as background with probability 1 - PRIOR_PROB.
    """
    prior = config.RETINANET.PRIOR_PROB
    if not config.RETINANET.SOFTMAX:
        return ("ConstantFill", {"value": -math.log((1 - prior) / prior)})
    foreground = config.MODEL.NUM_CLASSES - 1
    one_anchor = np.zeros(foreground + 1, dtype=np.float32)
    one_anchor[0] = math.log(foreground * (1 - prior) / prior)
    return ("GivenTensorFill", {"values": np.tile(one_anchor, num_anchors(config))})


def _add_towers(model: DetectionModel, pyramid: Pyramid, name: str) -> list[Blob]:
    """Add a tower with shared weights on each level, and return the last blob of each."""
    finest = pyramid.levels[0]
    features = []
    for level, blob in zip(pyramid.levels, pyramid.blobs):
        for index in range(model.config.RETINANET.NUM_CONVS):
            layer = f"{name}_n{index}_fpn"
            blob = _add_level_conv(model, blob, layer, level, finest, pyramid.dim, _ZERO)
            if model.config.LIBRA.RETINANET_HEAD.USE_GN:
                blob = _add_level_norm(model, blob, layer, level, finest, pyramid.dim)
            blob = model.relu(blob)
        features.append(blob)
    return features


def _add_predictions(
    model: DetectionModel,
    features: Iterable[Blob],
    pyramid: Pyramid,
    name: str,
    dim: int,
    bias_init: Fill,
) -> None:
    for level, blob in zip(pyramid.levels, features):
        _add_level_conv(
            model, blob, name + "_fpn", level, pyramid.levels[0], pyramid.dim, bias_init, dim
        )


def _add_level_conv(
    model: DetectionModel,
    blob: Blob,
    layer: str,
    level: int,
    finest: int,
    dim: int,
    bias_init: Fill,
    dim_out: int | None = None,
) -> Blob:
    """Add a 3x3 convolution. The finest level owns its weights, and the other levels use them."""
    return model.conv(
        blob, f"{layer}{level}", dim, dim_out or dim, 3, pad=1,
        weight_init=_GAUSSIAN, bias_init=bias_init,
        shared_with=None if level == finest else f"{layer}{finest}",
    )  # fmt: skip


def _add_level_norm(
    model: DetectionModel, blob: Blob, layer: str, level: int, finest: int, dim: int
) -> Blob:
    """Add GroupNorm. The finest level owns its scale and bias, and the other levels use them."""
    groups = group_norm_groups(dim, model.config)
    if level == finest:
        return model.group_norm(blob, f"{layer}{level}_gn", dim, groups)
    name = f"{layer}{level}_gn"
    owner = f"{layer}{finest}_gn"
    outputs = model.net.GroupNorm(
        [blob, owner + "_s", owner + "_b"],
        [name, name + "_mean", name + "_std"],
        group=groups,
        epsilon=model.config.GROUP_NORM.EPSILON,
        order="NCHW",
    )
    return outputs[0]


def _add_probabilities(model: DetectionModel, levels: Iterable[int], class_dim: int) -> None:
    for level in levels:
        logits, probabilities = f"retnet_cls_pred_fpn{level}", f"retnet_cls_prob_fpn{level}"
        if model.config.RETINANET.SOFTMAX:
            ops.group_spatial_softmax(model.net, logits, probabilities, num_classes=class_dim)
        else:
            model.net.Sigmoid(logits, probabilities)


def add_retinanet_losses(model: DetectionModel, levels: Sequence[int]) -> list[Blob]:
    """Add the box and class losses of every level, and return the loss blobs.

    Raises:
        ConfigError: see `add_positive_weights`, `add_negative_weights`, `add_class_weights`,
            `add_box_loss` and `add_class_loss`.
    """
    normalisers = ["retnet_fg_num", "retnet_bg_num"]
    add_sum(model, normalisers, "retnet_normalisers")
    model.add_metrics(normalisers)
    model.add_sampler(SAMPLER)
    rows = add_positive_weights(model, levels)
    add_negative_weights(model, levels)
    losses = [_add_box_loss(model, level, rows.boxes.get(level)) for level in levels]
    for level in levels:
        losses.append(add_class_loss(model, level, add_class_weights(model, level, rows)))
    model.add_losses(losses)
    return losses


def _add_box_loss(model: DetectionModel, level: int, weights: Blob | None) -> Blob:
    config = model.config
    weight = config.RETINANET.BBOX_REG_WEIGHT * config.LIBRA.LOSS_WEIGHTS.BBOX
    inputs: list[Blob] = [
        f"retnet_bbox_pred_fpn{level}",
        f"retnet_roi_bbox_targets_fpn{level}",
        f"retnet_roi_fg_bbox_locs_fpn{level}",
        "retnet_fg_num",
    ]
    if weights is not None:
        inputs.append(weights)
    return add_box_loss(
        model,
        "select" if weights is None else "weighted_select",
        inputs,
        f"retnet_loss_bbox_fpn{level}",
        beta=config.RETINANET.BBOX_REG_BETA,
        scale=model.loss_scale * weight,
    )
