"""The samplers that LIBRA.SAMPLER names, for the box head's regions and the RPN's anchors."""

from __future__ import annotations

import numpy as np

from detectron_ext.errors import ConfigError
from detectron_ext.sampling.instance_balanced import sample_instance_balanced
from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.random_sampling import sample_random
from detectron_ext.sampling.sampling_statistics import count_samples


class BoxSampler:
    """Draws positives and negatives of one image; it has no state, so threads may share it.

    Args:
        settings: the configuration's LIBRA.SAMPLER node.
        negative_threshold: IoU with the ground truth below which a box is negative:
            TRAIN.RPN_NEGATIVE_OVERLAP for anchors, TRAIN.BG_THRESH_HI for regions.
        is_random: draw at random whatever NEGATIVE and POSITIVE say.

    Raises:
        ConfigError: LIBRA.SAMPLER.FLOOR_THRESH leaves nothing to balance, or nothing to draw the
            FLOOR_FRACTION from.
    """

    def __init__(self, settings, negative_threshold: float, is_random: bool = False):
        self._settings = settings
        self._negative_threshold = float(negative_threshold)
        self._is_balanced = settings.NEGATIVE == "iou_balanced" and not is_random
        self._is_instance_balanced = settings.POSITIVE == "instance_balanced" and not is_random
        self._floor = settings.FLOOR_THRESH if self._is_balanced else 0.0
        if self._is_balanced:
            self._check_floor()

    def _check_floor(self) -> None:
        if self._floor >= self._negative_threshold:
            raise ConfigError(
                f"LIBRA.SAMPLER.FLOOR_THRESH ({self._floor}) leaves no IoU to balance below the "
                f"negatives' threshold {self._negative_threshold}: lower it"
            )
        fraction = self._settings.FLOOR_FRACTION
        # mmdetection's rule puts boxes of overlap 0 below a floor of 0; ours has none there, and
        # would draw the fraction from all boxes alike, unbalanced.
        if self._settings.BIN_RANGE == "negatives" and self._floor == 0 and fraction > 0:
            raise ConfigError(
                f"LIBRA.SAMPLER.FLOOR_FRACTION ({fraction}) has no negatives to draw from, for "
                "none lies below a FLOOR_THRESH of 0: raise FLOOR_THRESH or set FLOOR_FRACTION to 0"
            )

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
        if self._is_instance_balanced:
            return sample_instance_balanced(matched, candidates, count, rng)
        return sample_random(candidates, count, rng)

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
        if not self._is_balanced:
            return sample_random(candidates, count, rng)
        settings = self._settings
        return sample_iou_balanced(
            overlaps,
            candidates,
            count,
            rng,
            upper=self._negative_threshold,
            num_bins=settings.NUM_BINS,
            floor_thresh=self._floor,
            floor_fraction=settings.FLOOR_FRACTION,
            bin_range=settings.BIN_RANGE,
        )

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
            num_bins=self._settings.NUM_BINS,
            floor_thresh=self._floor,
        )
