"""The weights of RetinaNet's negatives that depend on their gradients, in the training net.

The device adds up the gradients of each bin, a few numbers for each pyramid level. The rule runs on
the host (`sampling.negative_weights`). Then the device looks up the weights of the anchors.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from detectron_ext import ops
from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.process_sums import add_sum
from detectron_ext.sampling.negative_weights import (
    NEGATIVES,
    NEGATIVES_SEED,
    GradientBalance,
    check_number_of_bins,
    num_groups,
    shuffles_bins,
    weighs_negatives,
)
from detectron_ext.sampling.retinanet_sampler import mode_weighs
from detectron_ext.sampling.sampling_statistics import counts_blob

RUNNING_MASSES = "retnet_negative_masses"
"""Blob with the running masses, (B,) float32, which checkpoints hold."""

_NEXT_MASSES = "retnet_negative_masses_next"
_WEIGHTS_OF_CODES = "retnet_negative_code_weights"


def add_negative_weights(model: DetectionModel, levels: Sequence[int]) -> None:
    """Add the weights of negatives that depend on their gradients, if there are any.

    Blobs, float32: ``retnet_negative_gradients_fpn<l>`` (B * G,), the masses of B bins, or of the G
    groups of each of them, on level l; ``retnet_negative_masses`` (B,), the running masses before
    the step, and ``retnet_negative_masses_next``, those after it;
    ``retnet_negative_code_weights`` (1 + B * G,), the weights of the numbers that
    ``retnet_negative_bins_fpn<l>`` holds, beginning with 1 for the number 0.

    Args:
        model: gets the operators.
        levels: numbers of the pyramid levels.

    Raises:
        ConfigError: RETINANET.SOFTMAX is on, LIBRA.RETINANET_SAMPLER.MODE makes weights, too, or
            there are too many bins.
    """
    config = model.config
    if not weighs_negatives(config):
        return
    _check(config)
    num_bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS
    masses = [_add_masses(model, level, num_bins * num_groups(config)) for level in levels]
    add_sum(model, masses, "retnet_negative_gradients_sum")
    running = model.add_state(RUNNING_MASSES, num_bins)
    inputs = [*masses, "retnet_fg_num", running]
    if shuffles_bins(config):
        inputs.append(NEGATIVES_SEED)
    outputs = [_WEIGHTS_OF_CODES, _NEXT_MASSES, counts_blob(NEGATIVES)]
    model.net.Python(_Rule(config, len(masses)).forward)(inputs, outputs, name="NegativeWeights")
    model.update_state(RUNNING_MASSES, _NEXT_MASSES)
    model.add_sampler(NEGATIVES)


def add_weights_of_level(model: DetectionModel, level: int) -> Blob:
    """Add the weights of a level's anchors, (N, A, H, W) float32: 1 where there is no negative."""
    return model.net.Gather(
        [_WEIGHTS_OF_CODES, f"retnet_negative_bins_fpn{level}"],
        f"retnet_negative_weights_fpn{level}",
    )


def _check(config: Settings) -> None:
    key = f"LIBRA.RETINANET_NEGATIVES.WEIGHTS {config.LIBRA.RETINANET_NEGATIVES.WEIGHTS}"
    if config.RETINANET.SOFTMAX:
        raise ConfigError(
            f"{key} needs RETINANET.SOFTMAX False: the softmax focal loss takes no weights"
        )
    if mode_weighs(config):
        raise ConfigError(
            f"{key} and LIBRA.RETINANET_SAMPLER.MODE {config.LIBRA.RETINANET_SAMPLER.MODE} both "
            "weigh negatives: choose one of them"
        )
    check_number_of_bins(config)


def _add_masses(model: DetectionModel, level: int, num_codes: int) -> Blob:
    config = model.config
    return ops.negative_gradient_mass(
        model.net,
        f"retnet_cls_pred_fpn{level}",
        f"retnet_negative_bins_fpn{level}",
        f"retnet_negative_gradients_fpn{level}",
        gamma=config.RETINANET.LOSS_GAMMA,
        alpha=config.RETINANET.LOSS_ALPHA,
        num_classes=config.MODEL.NUM_CLASSES - 1,
        num_bins=num_codes,
    )


class _Rule:
    """Operator that weighs the negatives of all levels by their gradients.

    Inputs are the masses (B * G,) float32 of each level, the number of foreground anchors (1,), the
    running masses (B,), and the seed (1,) int32 of the draw if the bins are shuffled. Outputs are
    the weights (1 + B * G,) of the numbers that anchors have, the running masses after the step,
    and the figures of `negative_statistics`.
    """

    def __init__(self, config: Settings, num_levels: int) -> None:
        self._num_levels = num_levels
        self._balance = GradientBalance(config)

    def forward(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run the operator on Caffe2's tensors."""
        arrays = [tensor.data for tensor in inputs]
        masses = np.sum(arrays[: self._num_levels], axis=0, dtype=np.float64)
        foreground, running, *seed = arrays[self._num_levels :]
        rng = np.random.default_rng(int(seed[0][0])) if seed else None
        masses = masses.reshape(len(running), -1) / max(1.0, float(foreground.reshape(())))
        weights, running, figures = self._balance(masses, running, rng)
        per_code = np.broadcast_to(
            weights[:, np.newaxis] if masses.shape[1] == 1 else weights, masses.shape
        )
        of_codes = np.concatenate((np.ones(1, dtype=np.float32), per_code.ravel()))
        for tensor, array in zip(outputs, (of_codes, running, figures)):
            tensor.feed(array)
