"""What a sampler drew, counted so that the counts of images and iterations can be added up.

One array of counts holds, for K bins of IoU:

    [negatives in bin 0, ..., in bin K-1, all negatives, positives, squared positives, instances]

"Squared positives" sums over instances (ground-truth boxes) the square of each one's number of
positives; with the sum itself it gives the standard deviation over instances, which is what
instance-balanced sampling lowers.
"""

from __future__ import annotations

import math

import numpy as np

from detectron_ext.sampling.iou_bins import iou_bins

_NUM_TOTALS = 4


def counts_blob(sampler: str) -> str:
    """Name of the blob that carries the counts of ``sampler`` to the training log."""
    return f"sampling_counts_{sampler}"


def count_samples(
    negative_overlaps: np.ndarray,
    positive_instances: np.ndarray,
    num_instances: int,
    *,
    upper: float,
    num_bins: int,
    floor_thresh: float = 0.0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count the samples of one image.

    Args:
        negative_overlaps: (N,) float, IoU of each sampled negative with its best ground truth.
        positive_instances: (P,) int64, the ground-truth box of each sampled positive.
        num_instances: ground-truth boxes in the image, with positives or without.
        upper: IoU below which boxes are negative; the bins end there.
        num_bins: K.
        floor_thresh: IoU at which the bins begin; negatives below it are in no bin.
        weights: (N,) float, how much each negative counts; 1 without them.

    Returns:
        (K + 4,) float32, laid out as the module says; exact up to 2**24.
    """
    bins = iou_bins(negative_overlaps, floor_thresh, upper, num_bins)
    per_bin = np.bincount(bins.astype(np.int64) + 1, weights=weights, minlength=num_bins + 2)
    per_instance = np.bincount(positive_instances, minlength=num_instances).astype(np.float64)
    totals = [per_bin.sum(), per_instance.sum(), np.square(per_instance).sum(), num_instances]
    return np.concatenate((per_bin[1 : num_bins + 1], totals)).astype(np.float32)


def summarise_counts(sampler: str, counts: np.ndarray) -> dict:
    """Figures for the training log from counts added over images and iterations.

    Args:
        sampler: name to begin the figures' names with: rpn, roi or retinanet.
        counts: (K + 4,) float, a sum of what :func:`count_samples` returns.

    Returns:
        ``<sampler>_negative_share_bin<k>``, the share of the sampled negatives in bin k, lowest IoU
        first; ``<sampler>_positives_per_instance`` and ``..._per_instance_std``, mean and standard
        deviation over ground-truth boxes. Shares are absent where no negative was sampled, the
        others where there was no ground truth.
    """
    negatives, positives, squared, instances = map(float, counts[-_NUM_TOTALS:])
    figures = {}
    if negatives > 0:
        for index, number in enumerate(counts[:-_NUM_TOTALS]):
            figures[f"{sampler}_negative_share_bin{index}"] = float(number) / negatives
    if instances > 0:
        mean = positives / instances
        figures[f"{sampler}_positives_per_instance"] = mean
        # Rounding may take the difference of two equal numbers below 0.
        variance = max(0.0, squared / instances - mean**2)
        figures[f"{sampler}_positives_per_instance_std"] = math.sqrt(variance)
    return figures
