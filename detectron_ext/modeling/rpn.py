"""Region proposal network (Ren et al., NIPS 2015), on one map or on every level of a pyramid.

A 3x3 convolution is followed by two 1x1 convolutions. One predicts how likely each anchor is an
object, the other how to move the anchor. All pyramid levels use the same weights. Blob names are
Detectron's: on a pyramid they end in ``_fpn<level>``.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
from caffe2.python import core

from detectron_ext import ops
from detectron_ext.geometry.anchors import rpn_anchor_levels
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob, Fill
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.process_sums import add_sum
from detectron_ext.sampling.rpn_targets import SAMPLER, divides_by_drawn

_GAUSSIAN: Fill = ("GaussianFill", {"std": 0.01})
_ZERO: Fill = ("ConstantFill", {"value": 0.0})
_BOX_LOSS_BETA = 1.0 / 9.0
_LARGEST = float(np.finfo(np.float32).max)


def add_rpn_heads(model: DetectionModel, pyramid: Pyramid) -> None:
    """Add ``rpn_cls_logits`` (N, A, H, W) and ``rpn_bbox_pred`` (N, 4 * A, H, W) of each level."""
    levels = rpn_anchor_levels(model.config)
    anchors = len(levels[0].cell)

    def conv(blob, layer, suffix, dim_out, kernel):
        return model.conv(
            blob, layer + suffix, pyramid.dim, dim_out, kernel,
            pad=kernel // 2, weight_init=_GAUSSIAN, bias_init=_ZERO,
            shared_with=None if suffix == levels[0].suffix else layer + levels[0].suffix,
        )  # fmt: skip

    for blob, (suffix, *_) in zip(pyramid.blobs, levels):
        hidden = model.relu(conv(blob, "conv_rpn", suffix, pyramid.dim, 3))
        conv(hidden, "rpn_cls_logits", suffix, anchors, 1)
        conv(hidden, "rpn_bbox_pred", suffix, 4 * anchors, 1)


def add_rpn_losses(model: DetectionModel) -> list:
    """Add the objectness and box losses of every level, and return the loss blobs.

    Labels and targets are fed for maps that are at least as large as the network's (blobs
    ``..._wide``). Here they are narrowed to the network's size.

    What the losses are divided by is LIBRA.SAMPLER.RPN_NORMALISER. By default, on a pyramid, the
    objectness losses are divided by the number of anchors that should be sampled, so each level
    counts by its number of sampled anchors. On one map they are divided by the number of anchors
    that were sampled. With several processes the numbers are those of all of them.
    """
    suffixes = [suffix for suffix, *_ in rpn_anchor_levels(model.config)]
    labels = {
        suffix: _narrow(model, "rpn_labels_int32", suffix, "rpn_cls_logits") for suffix in suffixes
    }
    drawn = divides_by_drawn(model.config)
    # The operator's own count on one map is that of this process alone.
    on_one_map = suffixes == [""]
    counts_all = drawn or (on_one_map and model.num_processes > 1)
    count = _add_number_drawn(model, list(labels.values())) if counts_all else None
    losses = []
    for suffix in suffixes:
        losses.append(_add_objectness_loss(model, suffix, labels[suffix], count))
        losses.append(_add_box_loss(model, suffix, count if drawn else None))
    model.add_losses(losses)
    model.add_sampler(SAMPLER)
    return losses


def _add_number_drawn(model: DetectionModel, labels: Sequence[Blob]) -> Blob:
    """Add the number of anchors in the minibatch that are not ignored, at least 1: a scalar.

    The anchors of all processes count.
    """
    net = model.net
    one = model.param_init_net.ConstantFill([], "rpn_one", shape=[1], value=1.0)
    counts = []
    for blob in labels:  # -1 is ignored, 0 and 1 are drawn
        number = net.Cast(blob, blob + "_drawn", to=core.DataType.FLOAT)
        net.Clip(number, number, min=-1.0, max=0.0)
        net.Add([number, one], number, broadcast=1)
        counts.append(net.SumElements(number, blob + "_num_drawn"))
    total = net.Sum(counts, "rpn_num_drawn")
    add_sum(model, [total], "rpn_drawn_sum", scalars=True)
    net.Clip(total, total, min=1.0, max=_LARGEST)
    return net.StopGradient(total, total)


def _add_box_loss(model: DetectionModel, suffix: str, count: Blob | None) -> Blob:
    """Add the box loss of a level. A ``count`` divides the sum over the minibatch."""
    # The operator divides by the number of this process's images.
    name, scale = f"loss_rpn_bbox{suffix}", model.loss_scale / model.num_processes
    if count is not None:
        name = f"{name}_sum"
        scale = model.loss_scale * model.config.TRAIN.IMS_PER_BATCH
    targets, inside_weights, outside_weights = (
        _narrow(model, f"rpn_bbox_{kind}", suffix, "rpn_bbox_pred")
        for kind in ("targets", "inside_weights", "outside_weights")
    )
    loss = ops.smooth_l1_loss(
        model.net, f"rpn_bbox_pred{suffix}", targets, inside_weights, outside_weights,
        name, beta=_BOX_LOSS_BETA, scale=scale,
    )  # fmt: skip
    return loss if count is None else model.net.Div([loss, count], f"loss_rpn_bbox{suffix}")


def _narrow(model: DetectionModel, name: str, suffix: str, like: str) -> Blob:
    wide = f"{name}_wide{suffix}"
    return ops.spatial_narrow_as(model.net, wide, like + suffix, name + suffix)


def _add_objectness_loss(
    model: DetectionModel, suffix: str, labels: Blob, count: Blob | None
) -> Blob:
    """Add the objectness loss of a level. A ``count`` divides the sum over the minibatch."""
    train = model.config.TRAIN
    scale = model.loss_scale
    name = f"loss_rpn_cls{suffix}" if count is None else f"loss_rpn_cls{suffix}_sum"
    if suffix and count is None:
        scale /= train.RPN_BATCH_SIZE_PER_IM * train.IMS_PER_BATCH * model.num_processes
    loss = ops.sigmoid_cross_entropy_loss(
        model.net, f"rpn_cls_logits{suffix}", labels, name,
        scale=scale, normalize=not suffix and count is None,
    )  # fmt: skip
    return loss if count is None else model.net.Div([loss, count], f"loss_rpn_cls{suffix}")
