"""The samplers that LIBRA.SAMPLER names, for the box head's regions and the RPN's anchors."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from detectron_ext.errors import ConfigError
from detectron_ext.registry import Protocol, Registry
from detectron_ext.sampling.instance_balanced import sample_instance_balanced
from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.random_sampling import sample_random
from detectron_ext.sampling.sampling_statistics import count_samples

_RANDOM = "random"


class NegativeSampler(Protocol):
    """A class that is made once for a run and called once an image, by several threads at once.

    Attributes:
        floor_thresh: IoU at which the training log's bins of negatives begin, usually 0.0.
    """

    floor_thresh: float

    def __init__(self, settings: Any, negative_threshold: float) -> None:
        """Take the LIBRA.SAMPLER node and the IoU below which a box is negative.

        Raises:
            ConfigError: settings that do not suit it.
        """

    def __call__(
        self, overlaps: np.ndarray, candidates: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw negatives; arguments and result are those of `BoxSampler.negatives`."""
        ...


PositiveSampler = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]

NEGATIVES: Registry[type[NegativeSampler]] = Registry("LIBRA.SAMPLER.NEGATIVE")
"""Samplers of negatives by the names that LIBRA.SAMPLER.NEGATIVE takes.

An entry is a class, see `NegativeSampler`.
"""

POSITIVES: Registry[PositiveSampler] = Registry("LIBRA.SAMPLER.POSITIVE")
"""Samplers of positives by the names that LIBRA.SAMPLER.POSITIVE takes.

An entry is a function (matched, candidates, count, rng) -> indices; arguments and result are those
of `BoxSampler.positives`.
"""


@POSITIVES.register(_RANDOM)
def _random_positives(matched, candidates, count, rng):
    return sample_random(candidates, count, rng)


POSITIVES.register("instance_balanced")(sample_instance_balanced)


@NEGATIVES.register(_RANDOM)
class _RandomNegatives:
    floor_thresh = 0.0

    def __init__(self, settings, negative_threshold):
        pass

    def __call__(self, overlaps, candidates, count, rng):
        return sample_random(candidates, count, rng)


@NEGATIVES.register("iou_balanced")
class _IouBalancedNegatives:
    def __init__(self, settings, negative_threshold):
        self._settings = settings
        self._threshold = negative_threshold
        self.floor_thresh = settings.FLOOR_THRESH
        self._check_floor()

    def __call__(self, overlaps, candidates, count, rng):
        settings = self._settings
        return sample_iou_balanced(
            overlaps,
            candidates,
            count,
            rng,
            upper=self._threshold,
            num_bins=settings.NUM_BINS,
            floor_thresh=self.floor_thresh,
            floor_fraction=settings.FLOOR_FRACTION,
            bin_range=settings.BIN_RANGE,
        )

    def _check_floor(self) -> None:
        floor, fraction = self.floor_thresh, self._settings.FLOOR_FRACTION
        if floor >= self._threshold:
            raise ConfigError(
                f"LIBRA.SAMPLER.FLOOR_THRESH ({floor}) leaves no IoU to balance below the "
                f"negatives' threshold {self._threshold}: lower it"
            )
        # mmdetection's rule puts boxes of overlap 0 below a floor of 0. Ours has no boxes there and
        # would draw the fraction from all boxes alike, which balances nothing.
        if self._settings.BIN_RANGE == "negatives" and floor == 0 and fraction > 0:
            raise ConfigError(
                f"LIBRA.SAMPLER.FLOOR_FRACTION ({fraction}) has no negatives to draw from, for "
                "none lies below a FLOOR_THRESH of 0: raise FLOOR_THRESH or set FLOOR_FRACTION to 0"
            )


class BoxSampler:
    """Draws positives and negatives of one image; threads may share it.

    Args:
        settings: the configuration's LIBRA.SAMPLER node.
        negative_threshold: IoU with the ground truth below which a box is negative:
            TRAIN.RPN_NEGATIVE_OVERLAP for anchors, TRAIN.BG_THRESH_HI for regions.
        is_random: draw at random whatever NEGATIVE and POSITIVE say.

    Raises:
        ConfigError: there is no such sampler, or its settings do not suit it: FLOOR_THRESH leaves
            nothing to balance, or nothing to draw the FLOOR_FRACTION from.
    """

    def __init__(self, settings, negative_threshold: float, is_random: bool = False):
        self._negative_threshold = float(negative_threshold)
        self._num_bins = settings.NUM_BINS
        negatives, positives = settings.NEGATIVE, settings.POSITIVE
        if is_random:
            negatives = positives = _RANDOM
        self._negatives = NEGATIVES.choose(negatives)(settings, self._negative_threshold)
        self._positives = POSITIVES.choose(positives)

    def positives(
        self,
        matched: np.ndarray,
        candidates: np.ndarray,
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw positives as LIBRA.SAMPLER.POSITIVE says.

        Args:
            matched: (K,) int64, for every box its ground-truth box.
            candidates: (N,) int64 indices of the positives, each once.
            count: how many to draw, at least 0.
            rng: source of the draw.

        Returns:
            (min(count, N),) int64 of the candidates, distinct.
        """
        return self._positives(matched, candidates, count, rng)

    def negatives(
        self,
        overlaps: np.ndarray,
        candidates: np.ndarray,
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw negatives as LIBRA.SAMPLER.NEGATIVE says.

        Args:
            overlaps: (K,) float, IoU of every box, positives too, with its best ground truth.
            candidates: (N,) int64 indices of the negatives, each once.
            count: how many to draw, at least 0.
            rng: source of the draw.

        Returns:
            (min(count, N),) int64 of the candidates, distinct.
        """
        return self._negatives(overlaps, candidates, count, rng)

    def counts(
        self,
        overlaps: np.ndarray,
        matched: np.ndarray,
        positives: np.ndarray,
        negatives: np.ndarray,
        num_instances: int,
    ) -> np.ndarray:
        """Count what was drawn from one image, for the training log.

        Args:
            overlaps: (K,) float, IoU of every box with its best ground truth.
            matched: (K,) int64, that ground-truth box.
            positives, negatives: int64 indices of the boxes drawn.
            num_instances: ground-truth boxes in the image.

        Returns:
            (NUM_BINS + 4,) float32, as `sampling_statistics.count_samples` lays it out; the bins
            are those of the range that negatives can have, whatever draws them.
        """
        return count_samples(
            overlaps[negatives],
            matched[positives],
            num_instances,
            upper=self._negative_threshold,
            num_bins=self._num_bins,
            floor_thresh=self._negatives.floor_thresh,
        )
