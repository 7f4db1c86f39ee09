"""RetinaNet's class losses, chosen by LIBRA.CLASS_LOSS.

All of them are divided by the number of foreground anchors. Weights of anchors do not change this
number.
"""

from __future__ import annotations

from typing import Any

from caffe2.python import core

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError, shown
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.registry import Protocol, Registry
from detectron_ext.sampling.negative_weights import weighs_negatives
from detectron_ext.sampling.positive_weights import NO_WEIGHTS, UNIFORM_WEIGHTS
from detectron_ext.sampling.retinanet_sampler import mode_weighs
from detectron_ext.sampling.retinanet_targets import deltas_per_anchor


class ClassLoss(Protocol):
    """A function that adds the class loss of a pyramid level and returns its blob, a scalar."""

    def __call__(
        self,
        model: DetectionModel,
        level: int,
        weights: Blob | None,
        blob_out: str,
        *,
        scale: float,
    ) -> Blob:
        """Add the loss.

        Args:
            model: ``model.net`` gets the operators, ``model.config`` holds all settings. Blobs of
                the level are ``retnet_cls_pred_fpn<l>``, the logits (N, A * classes, H, W), and
                ``retnet_cls_labels_fpn<l>`` (N, A, H, W) int32: class number, 0 for background, -1
                for ignored; further ones are those of the box loss. ``retnet_fg_num`` (1,) is the
                number of foreground anchors. Only the logits may get a gradient.
            level: number of the pyramid level.
            weights: weights of the anchors, (N, A, H, W) float32; None if all count the same.
            blob_out: name of the loss. Names of further blobs must contain the level.
            scale: factor of the loss, at least 0: LIBRA.LOSS_WEIGHTS.CLS divided by the number of
                GPUs.

        Raises:
            ConfigError: settings that this loss cannot use.
        """
        ...


CLASS_LOSSES: Registry[ClassLoss] = Registry("LIBRA.CLASS_LOSS", "a function", callable)
"""RetinaNet's class losses by the names that LIBRA.CLASS_LOSS takes; see `ClassLoss`."""


def add_class_loss(model: DetectionModel, level: int, weights: Blob | None) -> Blob:
    """Add the class loss that the configuration names for a level, and return it.

    Raises:
        ConfigError: there is no such loss, it cannot use the settings, or it returns no blob.
    """
    libra = model.config.LIBRA
    scale = model.loss_scale * libra.LOSS_WEIGHTS.CLS
    add = CLASS_LOSSES.choose(libra.CLASS_LOSS)
    loss = add(model, level, weights, f"fl_fpn{level}", scale=scale)
    if not isinstance(loss, (core.BlobReference, str)):
        raise ConfigError(
            f"LIBRA.CLASS_LOSS {libra.CLASS_LOSS} must return a blob, given {shown(loss)}"
        )
    return loss


def _inputs(level: int) -> tuple[str, str, str]:
    return f"retnet_cls_pred_fpn{level}", f"retnet_cls_labels_fpn{level}", "retnet_fg_num"


@CLASS_LOSSES.register("focal")
def _focal(
    model: DetectionModel, level: int, weights: Blob | None, blob_out: str, *, scale: float
) -> Blob:
    """Add the focal loss, of sigmoids or, with RETINANET.SOFTMAX, of softmaxes."""
    config = model.config
    options: dict[str, Any] = {
        "gamma": config.RETINANET.LOSS_GAMMA,
        "alpha": config.RETINANET.LOSS_ALPHA,
        "scale": scale,
    }
    if config.RETINANET.SOFTMAX:
        _check_softmax(model)
        options.update(prob=f"retnet_prob_fpn{level}", num_classes=config.MODEL.NUM_CLASSES)
        return ops.softmax_focal_loss(model.net, *_inputs(level), blob_out, **options)[0]
    options["num_classes"] = config.MODEL.NUM_CLASSES - 1
    if weights is not None:
        return ops.weighted_sigmoid_focal_loss(
            model.net, *_inputs(level), weights, blob_out, **options
        )
    return ops.sigmoid_focal_loss(model.net, *_inputs(level), blob_out, **options)


def _check_softmax(model: DetectionModel) -> None:
    gamma = model.config.RETINANET.LOSS_GAMMA
    if model.num_gpus and gamma < 1:
        # The gradient there multiplies (1 - p)^(gamma - 1), infinite at p = 1, with 0.
        raise ConfigError(
            f"RETINANET.LOSS_GAMMA {gamma:g} needs RETINANET.SOFTMAX False on GPUs: below 1, "
            "Detectron's CUDA kernel of the softmax focal loss gives NaN where an anchor is certain"
        )


@CLASS_LOSSES.register("quality_focal")
def _quality_focal(
    model: DetectionModel, level: int, weights: Blob | None, blob_out: str, *, scale: float
) -> Blob:
    """Add the quality focal loss (Li et al., Generalized Focal Loss, arXiv:2006.04388).

    The target of a positive is the IoU of its predicted box with its object. The score then tells
    how good the box is, and not only which class it holds. LOSS_GAMMA is the exponent.
    """
    config = model.config
    _check_quality_focal(config)
    return ops.quality_focal_loss(
        model.net,
        *_inputs(level),
        _add_quality(model, level),
        blob_out,
        beta=config.RETINANET.LOSS_GAMMA,
        scale=scale,
        num_classes=config.MODEL.NUM_CLASSES - 1,
    )


def _check_quality_focal(config: Settings) -> None:
    name = "LIBRA.CLASS_LOSS quality_focal"
    if config.RETINANET.SOFTMAX:
        raise ConfigError(f"{name} needs RETINANET.SOFTMAX False: its targets are of sigmoids")
    if mode_weighs(config):
        raise ConfigError(
            f"{name} takes no weights: LIBRA.RETINANET_SAMPLER.MODE "
            f"{config.LIBRA.RETINANET_SAMPLER.MODE} needs LIBRA.CLASS_LOSS focal"
        )
    if weighs_negatives(config):
        raise ConfigError(
            f"{name} takes no weights: LIBRA.RETINANET_NEGATIVES.WEIGHTS "
            f"{config.LIBRA.RETINANET_NEGATIVES.WEIGHTS} needs LIBRA.CLASS_LOSS focal"
        )
    rule = config.LIBRA.RETINANET_WEIGHTS.POSITIVE
    if rule not in (NO_WEIGHTS, UNIFORM_WEIGHTS):
        raise ConfigError(
            f"{name} takes no weights: LIBRA.RETINANET_WEIGHTS.POSITIVE {rule} needs "
            f"LIBRA.CLASS_LOSS focal; {UNIFORM_WEIGHTS} only writes to the log"
        )


def _add_quality(model: DetectionModel, level: int) -> Blob:
    """Add the IoU of the predicted box of each positive, a map (N, A, H, W); 1 elsewhere."""
    locations = f"retnet_roi_fg_bbox_locs_fpn{level}"
    iou = ops.select_box_iou(
        model.net,
        f"retnet_bbox_pred_fpn{level}",
        f"retnet_roi_bbox_targets_fpn{level}",
        locations,
        f"retnet_quality_rows_fpn{level}",
        max_log_scale=model.config.BBOX_XFORM_CLIP,
    )
    ones = model.net.ConstantFill(
        [f"retnet_cls_labels_fpn{level}"], f"retnet_quality_of_1_fpn{level}", value=1.0
    )
    return ops.scale_anchors(
        model.net, ones, iou, locations, f"retnet_quality_fpn{level}",
        channels=deltas_per_anchor(model.config),
    )  # fmt: skip
