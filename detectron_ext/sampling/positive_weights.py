"""Weights of RetinaNet's positives that depend on what the network predicts.

RetinaNet trains every positive alike, whether its predicted box is good or bad. But detections are
ranked by their scores, and a bad box that is ranked above a good one of the same object costs
average precision. A rule here gives good positives larger weights in the class loss. Weights are
constants of a training step: no gradient flows through them.

A rule for the class loss returns factors. `weigh_positives` scales them so that the sum of the
positives' class losses stays what it is without weights. So a rule changes which positives are
learnt, and not how much they count beside the negatives. `weigh_boxes` makes weights for the box
loss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.registry import Protocol, Registry

NO_WEIGHTS = "none"
UNIFORM_WEIGHTS = "uniform"


class Positives(NamedTuple):
    """The P positive anchors of a minibatch: those of all levels and of all images of a device.

    Attributes:
        iou: (P,) float64, IoU of the predicted box with the box that it should become.
        class_loss: (P,) float64, focal loss, summed over classes; not divided by anything.
        score: (P,) float64, predicted probability of the anchor's own class.
        classes: (P,) int64, class number from 1.
        image: (P,) int64, number of the image in the minibatch.
        instance: (P,) int64, number of the ground-truth box. Boxes of different images have
            different numbers.
    """

    iou: np.ndarray
    class_loss: np.ndarray
    score: np.ndarray
    classes: np.ndarray
    image: np.ndarray
    instance: np.ndarray


class PositiveWeights(Protocol):
    """A class that is instantiated once for a replica. The instance is called in every step."""

    def __init__(self, config: Settings) -> None:
        """Take the whole configuration.

        Raises:
            ConfigError: settings that this rule cannot use.
        """

    def __call__(self, positives: Positives) -> np.ndarray:
        """Return a factor for each positive, (P,) float of at least 0; P may be 0.

        Where predictions are NaN, factors may be NaN, too.
        """
        ...


POSITIVE_WEIGHTS: Registry[type[PositiveWeights]] = Registry(
    "LIBRA.RETINANET_WEIGHTS.POSITIVE", "a class", lambda part: isinstance(part, type)
)
"""Rules by the names that LIBRA.RETINANET_WEIGHTS.POSITIVE takes; see `PositiveWeights`.

With `none` the graph has no weights.
"""


@POSITIVE_WEIGHTS.register(NO_WEIGHTS)
@POSITIVE_WEIGHTS.register(UNIFORM_WEIGHTS)
class _Uniform:
    """The factor 1 everywhere: nothing changes, but the training log tells how positives fare."""

    def __init__(self, config: Settings) -> None:
        pass

    def __call__(self, positives: Positives) -> np.ndarray:
        return np.ones(len(positives.iou))


@POSITIVE_WEIGHTS.register("iou_balanced")
class _IouBalanced:
    """The factor u^eta, where u is the IoU (Wu and Li, arXiv:1908.05641).

    The weight of a positive is w_i = u_i^eta * sum_j(L_j) / sum_j(u_j^eta L_j) with its class loss
    L_j. The authors weigh the logit of a positive's own class. Here all logits of the anchor have
    its weight, and L_j is their sum.
    """

    def __init__(self, config: Settings) -> None:
        self._eta = config.LIBRA.RETINANET_WEIGHTS.ETA

    def __call__(self, positives: Positives) -> np.ndarray:
        return positives.iou**self._eta


@POSITIVE_WEIGHTS.register("rank_in_object")
class _RankInObject:
    """The factor ((1 - b) s + b)^g, where s is the rank of the IoU within an object as a share.

    With n positives of an object, s is 1 for the best of them and 1 / n for the worst.
    """

    def __init__(self, config: Settings) -> None:
        self._power = _RankPower(config)

    def __call__(self, positives: Positives) -> np.ndarray:
        ranks = ranks_in_groups(positives.iou, positives.instance)
        sizes = np.bincount(positives.instance)[positives.instance]
        return self._power(1 - ranks / np.maximum(sizes, 1))


@POSITIVE_WEIGHTS.register("isr_p")
class _HierarchicalRank:
    """ISR-P of PISA (Cao et al., Prime sample attention in object detection, CVPR 2020).

    The positives of an object are ranked by their IoU. Then the positives of a class are ranked:
    the best of each object first, ordered by IoU, then the second best, and so on. With rank r from
    0 and the largest number n of positives of a class, the share is s = (n - r) / n and the factor
    ((1 - b) s + b)^g.
    """

    def __init__(self, config: Settings) -> None:
        self._power = _RankPower(config)

    def __call__(self, positives: Positives) -> np.ndarray:
        local = ranks_in_groups(positives.iou, positives.instance)
        ranks = ranks_in_groups(positives.iou, positives.classes, first=local)
        return self._power(1 - ranks / max(1, np.bincount(positives.classes).max(initial=0)))


class _RankPower:
    """Turns shares of ranks into factors."""

    def __init__(self, config: Settings) -> None:
        self._bias = config.LIBRA.RETINANET_WEIGHTS.RANK_BIAS
        self._gamma = config.LIBRA.RETINANET_WEIGHTS.RANK_GAMMA

    def __call__(self, shares: np.ndarray) -> np.ndarray:
        return ((1 - self._bias) * shares + self._bias) ** self._gamma


def ranks_in_groups(
    values: np.ndarray, groups: np.ndarray, first: np.ndarray | None = None
) -> np.ndarray:
    """Return the rank of each value in its group, 0 for the largest.

    Args:
        values: (P,) float; equal values have the order of their places, and NaN comes last.
        groups: (P,) int, at least 0.
        first: (P,) int, compared before the values; the smallest comes first.

    Returns:
        (P,) int64.
    """
    order = np.lexsort((-values, groups) if first is None else (-values, first, groups))
    starts = np.concatenate(([0], np.cumsum(np.bincount(groups))))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values)) - starts[groups[order]]
    return ranks


def weigh_positives(
    positives: Positives,
    factors: np.ndarray,
    *,
    per_image: bool,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Scale factors so that the sum of the weighted class losses is that of the class losses.

    Args:
        positives: the P positives.
        factors: (P,) float, the result of a rule.
        per_image: keep the sum of each image, not only that of the minibatch.
        rng: if given, the factors change places at random among the positives whose sum is kept, as
            a control of the rule.

    Returns:
        (P,) float32. All weights of a group, an image or the minibatch, are 1 if they cannot be
        scaled: factors times losses add up to 0, or are not finite. If predictions are not finite,
        neither are the losses, whatever the weights.

    Raises:
        ConfigError: a wrong number of factors, or one below 0.
    """
    factors = np.asarray(factors, dtype=np.float64)
    _check_factors(factors, len(positives.iou))
    groups = _groups(positives, per_image)
    if rng is not None:
        factors = _shuffled(factors, groups, rng)
    return _keeping_sums(factors, positives.class_loss, groups)


def weigh_boxes(
    positives: Positives,
    exponent: float,
    *,
    per_image: bool,
    mean_one: bool,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Return weights u^exponent for the box loss, u the IoU (Wu and Li, arXiv:1908.05641).

    Args:
        positives: the P positives.
        exponent: lambda in the paper, at least 0.
        per_image: scale, and shuffle, the positives of each image, not those of the minibatch.
        mean_one: scale the weights so that their mean is 1. The authors do not: they raise the loss
            by a constant factor.
        rng: as in `weigh_positives`.

    Returns:
        (P,) float32. All weights of a group are 1 if they cannot be scaled, as in
        `weigh_positives`, and a weight that is not finite is 1 in any case.
    """
    factors = positives.iou**exponent
    groups = _groups(positives, per_image)
    if rng is not None:
        factors = _shuffled(factors, groups, rng)
    if mean_one:
        return _keeping_sums(factors, np.ones(len(factors)), groups)
    return np.where(np.isfinite(factors), factors, 1).astype(np.float32)


def _groups(positives: Positives, per_image: bool) -> np.ndarray:
    return positives.image if per_image else np.zeros(len(positives.iou), dtype=np.int64)


def _keeping_sums(factors: np.ndarray, losses: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Scale the factors of each group so that weights times losses add up to the losses' sum."""
    with np.errstate(all="ignore"):
        scale = np.bincount(groups, losses) / np.bincount(groups, factors * losses)
        weights = (factors * scale[groups]).astype(np.float32)
    broken = np.bincount(groups, ~np.isfinite(weights)) > 0
    return np.where(broken[groups], np.float32(1), weights)


def _check_factors(factors: np.ndarray, count: int) -> None:
    if factors.shape != (count,):
        raise ConfigError(
            f"LIBRA.RETINANET_WEIGHTS.POSITIVE: a rule must return {count} factors, given "
            f"{factors.shape}"
        )
    if (factors < 0).any():
        raise ConfigError(
            "LIBRA.RETINANET_WEIGHTS.POSITIVE: a rule must return factors of at least 0, given "
            f"{factors.min()}"
        )


def _shuffled(factors: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the factors in another order within each group."""
    places = np.argsort(groups, kind="stable")
    taken = np.lexsort((rng.random(len(factors)), groups))
    shuffled = np.empty_like(factors)
    shuffled[places] = factors[taken]
    return shuffled
