"""Weights of RetinaNet's negatives by the gradient that comes from their IoU bins.

The focal loss gives every anchor a gradient that depends on its error. How much of it comes from
the negatives of a bin of IoU, the mass G of the bin, therefore changes in training. The weight of a
bin is (G / mean of G)^-tau, as gradients are harmonised by their norm (Li et al., AAAI 2019) or by
their class (Tan et al., Equalization loss v2, CVPR 2021). With tau above 0 the masses become more
equal, with tau below 0 less equal.

Three things are fixed:

- G is a running average, because a minibatch has few negatives of high IoU. It includes the step
  whose negatives are weighed. The gradients are those without weights, divided by the number of
  foreground anchors, as the loss is.
- Weights are limited first and scaled afterwards, so that the masses of this step times the weights
  add up to the masses of this step. What is learnt from negatives changes, but not how much they
  count beside the positives.
- Weights are constants of a step: no gradient flows through them.

Groups of negatives have weights. Without shuffling the groups are the bins. In the control
`negatives`, the negatives of an image exchange their groups at random: the loader writes bin and
group of each negative as one number (`group_codes`), and the masses of all pairs are added up.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.errors import ConfigError
from detectron_ext.limits import MAX_GRADIENT_BINS
from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.matching import BACKGROUND

NO_WEIGHTS = "none"
NEGATIVES = "negatives"
"""Name of the figures among the samplers, see `sampling_statistics.counts_blob`."""

NEGATIVES_SEED = "retnet_negatives_seed"
"""Blob with the seed of SHUFFLED `bins`, (1,) int32."""

_SHUFFLED_NEGATIVES, _SHUFFLED_BINS = "negatives", "bins"


def weighs_negatives(config: Settings) -> bool:
    """Return whether negatives have weights by their gradients."""
    return config.LIBRA.RETINANET_NEGATIVES.WEIGHTS != NO_WEIGHTS


def shuffles_negatives(config: Settings) -> bool:
    """Return whether the negatives of an image exchange their weights."""
    shuffled = config.LIBRA.RETINANET_NEGATIVES.SHUFFLED == _SHUFFLED_NEGATIVES
    return weighs_negatives(config) and shuffled


def shuffles_bins(config: Settings) -> bool:
    """Return whether the bins exchange their weights, so that the net needs a seed."""
    shuffled = config.LIBRA.RETINANET_NEGATIVES.SHUFFLED == _SHUFFLED_BINS
    return weighs_negatives(config) and shuffled


def num_groups(config: Settings) -> int:
    """Return the number of groups of a bin: 1, or the number of bins if negatives are shuffled."""
    return config.LIBRA.RETINANET_SAMPLER.NUM_BINS if shuffles_negatives(config) else 1


def check_number_of_bins(config: Settings) -> None:
    """Raise ConfigError if the operator cannot add up the masses of so many groups of bins."""
    bins = config.LIBRA.RETINANET_SAMPLER.NUM_BINS
    if bins * num_groups(config) > MAX_GRADIENT_BINS:
        raise ConfigError(
            f"LIBRA.RETINANET_SAMPLER.NUM_BINS {bins} is too large for "
            f"LIBRA.RETINANET_NEGATIVES.SHUFFLED {_SHUFFLED_NEGATIVES}: it must be at most "
            f"{int(MAX_GRADIENT_BINS**0.5)}"
        )


def negative_bins(
    labels: np.ndarray, overlaps: np.ndarray, *, upper: float, num_bins: int
) -> np.ndarray:
    """Return the bin of each negative.

    Args:
        labels: (K,) int32: class number, 0 for background, -1 for ignored.
        overlaps: (K,) float32, the IoU of each anchor with its best ground-truth box.
        upper: end of the last bin; the first begins at 0. Negatives above it, which only a mode of
            your own can make, are in the last bin.
        num_bins: number B of bins.

    Returns:
        (K,) int32: 1 to B for negatives, 0 for the other anchors.
    """
    bins = np.zeros(len(labels), dtype=np.int32)
    negatives = np.flatnonzero(labels == BACKGROUND)
    found = iou_bins(overlaps[negatives], 0.0, upper, num_bins).astype(np.int32)
    bins[negatives] = 1 + np.clip(found, 0, num_bins - 1)
    return bins


def group_codes(bins: np.ndarray, num_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Let negatives exchange their groups at random, as a control.

    Args:
        bins: (K,) int32, the result of `negative_bins` for an image.
        num_bins: number B of bins.
        rng: source of the exchange.

    Returns:
        (K,) int32: 1 + (bin - 1) * B + (group - 1) for a negative, 0 for the other anchors. A
        negative's group is the bin of the negative that it exchanged with.
    """
    codes = np.zeros_like(bins)
    negatives = np.flatnonzero(bins)
    own = bins[negatives] - 1
    codes[negatives] = 1 + own * num_bins + rng.permutation(own)
    return codes


def updated_masses(running: np.ndarray, masses: np.ndarray, momentum: float) -> np.ndarray:
    """Return the running masses after a step.

    Args:
        running: (B,) float32, those before the step; all 0 before the first mass.
        masses: (B,) float64, those of the step.
        momentum: LIBRA.RETINANET_NEGATIVES.MOMENTUM.

    Returns:
        (B,) float32. They are those before if a mass of the step is not finite.
    """
    if not np.isfinite(masses).all():
        return running
    before = running.astype(np.float64)
    return (momentum * before + (1 - momentum) * masses if before.any() else masses).astype(
        np.float32
    )


def bin_factors(running: np.ndarray, tau: float, clip: Sequence[float]) -> np.ndarray:
    """Return the weight of each bin before scaling.

    Args:
        running: (B,) float32, the running masses.
        tau: exponent.
        clip: least and largest weight.

    Returns:
        (B,) float64; 1 for a bin without a mass.
    """
    factors = np.ones(len(running))
    filled = np.flatnonzero(running > 0)
    masses = running[filled].astype(np.float64)
    if len(filled):
        low, high = clip
        with np.errstate(over="ignore"):  # an infinite power is clipped
            factors[filled] = np.clip((masses / masses.mean()) ** -tau, low, high)
    return factors


def keeping_the_total(factors: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Scale factors so that factors times masses add up to the sum of the masses.

    Args:
        factors: (G,) float64, above 0.
        masses: (G,) float64, the masses of the groups in this step, at least 0.

    Returns:
        (G,) float32; all of them are 1 if they cannot be scaled, because there is no mass or one is
        not finite.
    """
    with np.errstate(all="ignore"):
        scaled = (factors * (masses.sum() / (factors * masses).sum())).astype(np.float32)
    return scaled if np.isfinite(scaled).all() else np.ones(len(factors), dtype=np.float32)


class Weighed(NamedTuple):
    """What a step makes of the masses.

    Attributes:
        weights: (G,) float32, the weight of each group.
        running: (B,) float32, the running masses after the step.
        figures: (3 B + 1,) float32, see `negative_statistics`.
    """

    weights: np.ndarray
    running: np.ndarray
    figures: np.ndarray


class GradientBalance:
    """Weighs groups of negatives in every step.

    Args:
        config: LIBRA.RETINANET_NEGATIVES and the number of bins are used.
    """

    def __init__(self, config: Settings) -> None:
        self._settings = config.LIBRA.RETINANET_NEGATIVES

    def __call__(
        self, masses: np.ndarray, running: np.ndarray, rng: np.random.Generator | None = None
    ) -> Weighed:
        """Return the weights of a step.

        Args:
            masses: (B, G) float64, the masses of the G groups of each of B bins; G is 1 if a
                bin's own negatives get its weight.
            running: (B,) float32, the running masses before the step.
            rng: if given, the bins with a mass exchange their weights.
        """
        settings = self._settings
        of_bins = masses.sum(axis=1)
        running = updated_masses(running, of_bins, settings.MOMENTUM)
        factors = bin_factors(running, settings.TAU, settings.CLIP)
        if rng is not None:
            filled = np.flatnonzero(running > 0)
            factors[filled] = factors[rng.permutation(filled)]
        if masses.shape[1] == 1:
            weights = keeping_the_total(factors, of_bins)
            after = weights * of_bins
        else:
            weights = keeping_the_total(factors, masses.sum(axis=0))
            after = masses @ weights
        figures = np.concatenate((of_bins, after, weights, [1])).astype(np.float32)
        return Weighed(weights, running, figures)
