"""The weights of RetinaNet's anchors in the class loss.

A mode of LIBRA.RETINANET_SAMPLER makes weights in the loader, from the anchors alone. A rule of
LIBRA.RETINANET_WEIGHTS makes weights in the net, from the predictions. Where there are both, they
are multiplied.

The device selects the predictions of the positives, a few hundred rows. The rule runs on the host:
it needs the rows of all levels together, and numpy is fast enough for them. Then the device writes
the weights of the rows to the maps that the class loss takes.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.sampling.positive_weights import (
    NO_WEIGHTS,
    POSITIVE_WEIGHTS,
    Positives,
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


def weighs_anchors(config: Settings) -> bool:
    """Return whether the class loss takes weights of the anchors."""
    return mode_weighs(config) or weighs_by_predictions(config)


def add_class_weights(model: DetectionModel, levels: Sequence[int]) -> dict[int, Blob]:
    """Add the weights of the anchors.

    Blobs of each level l with positives' weights, all float32: ``retnet_positive_iou_fpn<l>``,
    ``retnet_positive_loss_fpn<l>``, ``retnet_positive_score_fpn<l>`` and
    ``retnet_positive_weights_fpn<l>``, each (M,) for the M positives of the level.

    Args:
        model: gets the operators.
        levels: numbers of the pyramid levels.

    Returns:
        For each level the blob of weights, (N, A, H, W) float32; {} if all anchors count the same.

    Raises:
        ConfigError: RETINANET.SOFTMAX is on, or there is no such rule.
    """
    config = model.config
    if not weighs_anchors(config):
        return {}
    if config.RETINANET.SOFTMAX:
        raise ConfigError(
            f"{_key_at_fault(config)} needs RETINANET.SOFTMAX False: the softmax focal loss takes "
            "no weights"
        )
    if not weighs_by_predictions(config):
        return {level: _static_weights(level) for level in levels}
    rows = _add_positive_weights(model, levels)
    return {level: _add_weight_map(model, level, rows[level]) for level in levels}


def _key_at_fault(config: Settings) -> str:
    if config.LIBRA.RETINANET_WEIGHTS.POSITIVE != NO_WEIGHTS:
        return f"LIBRA.RETINANET_WEIGHTS.POSITIVE {config.LIBRA.RETINANET_WEIGHTS.POSITIVE}"
    return f"LIBRA.RETINANET_SAMPLER.MODE {config.LIBRA.RETINANET_SAMPLER.MODE}"


def _static_weights(level: int) -> str:
    return f"retnet_cls_weights_fpn{level}"


def _add_positive_weights(model: DetectionModel, levels: Sequence[int]) -> dict[int, Blob]:
    """Add the rule, and return the blob (M,) of the positives' weights of each level."""
    inputs = [blob for level in levels for blob in _add_positive_rows(model, level)]
    if model.config.LIBRA.RETINANET_WEIGHTS.SHUFFLED:
        inputs.append(WEIGHTS_SEED)
    weights = {level: f"retnet_positive_weights_fpn{level}" for level in levels}
    rule = _Rule(model.config, len(weights))
    outputs = [*weights.values(), counts_blob(WEIGHTS)]
    model.net.Python(rule.forward)(inputs, outputs, name="PositiveWeights")
    model.add_sampler(WEIGHTS)
    return dict(weights)


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


def _add_weight_map(model: DetectionModel, level: int, rows: Blob) -> Blob:
    if mode_weighs(model.config):
        base: Blob = _static_weights(level)
    else:
        labels = f"retnet_cls_labels_fpn{level}"
        base = model.net.ConstantFill([labels], f"retnet_weights_of_1_fpn{level}", value=1.0)
    return ops.scale_anchors(
        model.net,
        base,
        rows,
        f"retnet_roi_fg_bbox_locs_fpn{level}",
        f"retnet_anchor_weights_fpn{level}",
        channels=deltas_per_anchor(model.config),
    )


class _Rule:
    """Operator that weighs the positives of all levels.

    Inputs are, for each level, the IoUs, class losses and scores (M,) float32 of its positives, and
    their objects (M, 3) int32, rows (image, object, class). The last input is the seed (1,) int64
    of the draw if the weights are shuffled. Outputs are the weights (M,) of each level, and the
    figures of `weight_statistics`.
    """

    def __init__(self, config: Settings, num_levels: int) -> None:
        settings = config.LIBRA.RETINANET_WEIGHTS
        self._rule = POSITIVE_WEIGHTS.choose(settings.POSITIVE)(config)
        self._per_image = settings.TOTAL == "image"
        self._shuffled = settings.SHUFFLED
        self._num_levels = num_levels

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the operator on Caffe2's tensors."""
        arrays = [tensor.data for tensor in inputs]
        rng = np.random.default_rng(int(arrays.pop()[0])) if self._shuffled else None
        sizes = [len(iou) for iou in arrays[::4]]
        iou, loss, score = (np.concatenate(arrays[k::4]).astype(np.float64) for k in range(3))
        image, instance, classes = np.concatenate(arrays[3::4]).astype(np.int64).T
        positives = Positives(iou, loss, score, classes, image, instance)
        weights = weigh_positives(
            positives, self._rule(positives), per_image=self._per_image, rng=rng
        )
        for tensor, rows in zip(outputs, np.split(weights, np.cumsum(sizes)[:-1])):
            tensor.feed(rows)
        outputs[self._num_levels].feed(count_weights(positives, weights))
