"""The weights of RetinaNet's anchors in its losses.

A mode of LIBRA.RETINANET_SAMPLER makes weights in the loader, from the anchors alone. A rule of
LIBRA.RETINANET_WEIGHTS makes weights of positives in the net, from the predictions, and
LIBRA.RETINANET_NEGATIVES weights of negatives (`modeling.negative_weights`). Where there are
several, they are multiplied.

The device selects the predictions of the positives, a few hundred rows. The rule runs on the host:
it needs the rows of all levels together, and numpy is fast enough for them. Then the device writes
the weights of the rows to the maps that the class loss takes. The box loss takes the rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.negative_weights import add_weights_of_level
from detectron_ext.sampling.negative_weights import weighs_negatives
from detectron_ext.sampling.positive_weights import (
    NO_WEIGHTS,
    POSITIVE_WEIGHTS,
    Positives,
    weigh_boxes,
    weigh_positives,
)
from detectron_ext.sampling.retinanet_sampler import mode_weighs
from detectron_ext.sampling.retinanet_targets import (
    WEIGHTS_SEED,
    deltas_per_anchor,
    weighs_by_predictions,
)
from detectron_ext.sampling.sampling_statistics import counts_blob
from detectron_ext.sampling.weight_statistics import WEIGHTS, count_weights


class PositiveRows(NamedTuple):
    """The weights of the positives, before they are written to maps.

    Attributes:
        classes: for each level the blob (M,) float32 of the weights in the class loss; {} if they
            do not depend on predictions.
        boxes: the same for the box loss.
    """

    classes: dict[int, Blob]
    boxes: dict[int, Blob]


def weighs_anchors(config: Settings) -> bool:
    """Return whether a loss takes weights of the anchors."""
    return mode_weighs(config) or weighs_by_predictions(config) or weighs_negatives(config)


def add_positive_weights(model: DetectionModel, levels: Sequence[int]) -> PositiveRows:
    """Add the weights of the positives that depend on predictions, if there are any.

    Blobs of each level l, all (M,) float32 for the M positives of the level:
    ``retnet_positive_iou_fpn<l>``, ``retnet_positive_loss_fpn<l>`` and
    ``retnet_positive_score_fpn<l>``, and the weights ``retnet_positive_weights_fpn<l>`` and
    ``retnet_box_weights_fpn<l>``.

    Args:
        model: gets the operators.
        levels: numbers of the pyramid levels.

    Raises:
        ConfigError: RETINANET.SOFTMAX is on, or there is no such rule.
    """
    config = model.config
    if not weighs_by_predictions(config):
        return PositiveRows({}, {})
    _require_sigmoid(config)
    settings = config.LIBRA.RETINANET_WEIGHTS
    inputs = [blob for level in levels for blob in _add_positive_rows(model, level)]
    if settings.SHUFFLED:
        inputs.append(WEIGHTS_SEED)
    rows = PositiveRows(
        _named("retnet_positive_weights", levels, settings.POSITIVE),
        _named("retnet_box_weights", levels, settings.BOX),
    )
    outputs = [*rows.classes.values(), *rows.boxes.values(), counts_blob(WEIGHTS)]
    model.net.Python(_Rule(config).forward)(inputs, outputs, name="PositiveWeights")
    model.add_sampler(WEIGHTS)
    return rows


def _named(prefix: str, levels: Sequence[int], rule: str) -> dict[int, Blob]:
    return {} if rule == NO_WEIGHTS else {level: f"{prefix}_fpn{level}" for level in levels}


def add_class_weights(model: DetectionModel, level: int, rows: PositiveRows) -> Blob | None:
    """Add the weights of a level's anchors in the class loss.

    Args:
        model: gets the operators.
        level: number of the pyramid level.
        rows: the result of `add_positive_weights`. `add_negative_weights` must have been called,
            too.

    Returns:
        The blob of weights, (N, A, H, W) float32; None if all anchors count the same.

    Raises:
        ConfigError: RETINANET.SOFTMAX is on.
    """
    given: Blob | None = f"retnet_cls_weights_fpn{level}" if mode_weighs(model.config) else None
    if given or rows.classes:
        _require_sigmoid(model.config)
    if weighs_negatives(model.config):  # then no mode gives weights
        given = add_weights_of_level(model, level)
    if not rows.classes:
        return given
    labels = f"retnet_cls_labels_fpn{level}"
    ones = f"retnet_weights_of_1_fpn{level}"
    return ops.scale_anchors(
        model.net,
        given or model.net.ConstantFill([labels], ones, value=1.0),
        rows.classes[level],
        f"retnet_roi_fg_bbox_locs_fpn{level}",
        f"retnet_anchor_weights_fpn{level}",
        channels=deltas_per_anchor(model.config),
    )


def _require_sigmoid(config: Settings) -> None:
    if not config.RETINANET.SOFTMAX:
        return
    libra = config.LIBRA
    named = {
        "RETINANET_WEIGHTS.POSITIVE": libra.RETINANET_WEIGHTS.POSITIVE,
        "RETINANET_WEIGHTS.BOX": libra.RETINANET_WEIGHTS.BOX,
        "RETINANET_SAMPLER.MODE": libra.RETINANET_SAMPLER.MODE,
    }
    key, value = next(item for item in named.items() if item[1] != NO_WEIGHTS)
    reasons = {
        "RETINANET_WEIGHTS.BOX": "its rule also reads the sigmoid focal loss",
        "RETINANET_SAMPLER.MODE": "the softmax focal loss takes no weights; or use select",
    }
    reason = reasons.get(key, "the softmax focal loss takes no weights")
    raise ConfigError(f"LIBRA.{key} {value} needs RETINANET.SOFTMAX False: {reason}")


def _add_positive_rows(model: DetectionModel, level: int) -> tuple[Blob, ...]:
    """Add what the rule needs of the positives of a level."""
    config = model.config
    locations = f"retnet_roi_fg_bbox_locs_fpn{level}"
    iou = ops.select_box_iou(
        model.net,
        f"retnet_bbox_pred_fpn{level}",
        f"retnet_roi_bbox_targets_fpn{level}",
        locations,
        f"retnet_positive_iou_fpn{level}",
        max_log_scale=config.BBOX_XFORM_CLIP,
    )
    loss, score = ops.select_sigmoid_focal_loss(
        model.net,
        f"retnet_cls_pred_fpn{level}",
        f"retnet_cls_labels_fpn{level}",
        locations,
        f"retnet_positive_loss_fpn{level}",
        f"retnet_positive_score_fpn{level}",
        gamma=config.RETINANET.LOSS_GAMMA,
        alpha=config.RETINANET.LOSS_ALPHA,
        num_classes=config.MODEL.NUM_CLASSES - 1,
        channels=deltas_per_anchor(config),
    )
    return iou, loss, score, f"retnet_positive_objects_fpn{level}"


class _Rule:
    """Operator that weighs the positives of all levels.

    Inputs are, for each level, the IoUs, class losses and scores (M,) float32 of its positives, and
    their objects (M, 3) int32, rows (image, object, class). The last input is the seed (1,) int32
    of the draw if the weights are shuffled. Outputs are the weights (M,) of each level in the class
    loss, those in the box loss, each only if there are any, and the figures of `weight_statistics`.
    """

    def __init__(self, config: Settings) -> None:
        self._settings = config.LIBRA.RETINANET_WEIGHTS
        self._rule = POSITIVE_WEIGHTS.choose(self._settings.POSITIVE)(config)

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the operator on Caffe2's tensors."""
        arrays = [tensor.data for tensor in inputs]
        settings = self._settings
        rng = np.random.default_rng(int(arrays.pop()[0])) if settings.SHUFFLED else None
        positives = _joined(arrays)
        options: dict[str, Any] = {"per_image": settings.TOTAL == "image", "rng": rng}
        weights = weigh_positives(positives, self._rule(positives), **options)
        results = [] if settings.POSITIVE == NO_WEIGHTS else [weights]
        if settings.BOX != NO_WEIGHTS:
            options["mean_one"] = settings.BOX_MEAN_ONE
            results.append(weigh_boxes(positives, settings.LAMBDA, **options))
        ends = np.cumsum([len(iou) for iou in arrays[::4]])[:-1]
        arrays = [rows for result in results for rows in np.split(result, ends)]
        for tensor, array in zip(outputs, [*arrays, count_weights(positives, weights)]):
            tensor.feed(array)


def _joined(arrays: Sequence[np.ndarray]) -> Positives:
    """Return the positives of all levels, from four arrays of each."""
    iou, loss, score = (np.concatenate(arrays[k::4]).astype(np.float64) for k in range(3))
    image, instance, classes = np.concatenate(arrays[3::4]).astype(np.int64).T
    return Positives(iou, loss, score, classes, image, instance)
