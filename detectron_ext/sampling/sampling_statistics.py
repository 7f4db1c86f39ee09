"""Counts of what a sampler drew. Counts of images and of iterations can be added up.

For K bins of IoU, the layout of an array of counts is:

    [negatives in bin 0, ..., in bin K-1, all negatives, positives, squared positives, instances,
     instances without positives, images]

Instances are ground-truth boxes. "Squared positives" is the sum of the squared number of positives
of each instance. Together with the sum of positives it gives the standard deviation over instances,
which instance-balanced sampling lowers.
"""

from __future__ import annotations

import math

import numpy as np

from detectron_ext.sampling.iou_bins import iou_bins

_NUM_TOTALS = 6


def counts_blob(sampler: str) -> str:
    """Return the name of the blob with the counts of ``sampler``, for the training log."""
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
        negative_overlaps: (N,) float, the IoU of each sampled negative with its best ground-truth
            box.
        positive_instances: (P,) int64, the ground-truth box of each sampled positive.
        num_instances: number of all ground-truth boxes in the image.
        upper: end of the last bin, the IoU below which boxes are negative.
        num_bins: number K of bins.
        floor_thresh: IoU at which the first bin begins. Negatives below it are in no bin.
        weights: (N,) float, how much each negative counts. None stands for 1.

    Returns:
        (K + 6,) float32 in the layout of this module. Numbers are exact up to 2**24.
    """
    bins = iou_bins(negative_overlaps, floor_thresh, upper, num_bins)
    per_bin = np.bincount(bins.astype(np.int64) + 1, weights=weights, minlength=num_bins + 2)
    per_instance = np.bincount(positive_instances, minlength=num_instances).astype(np.float64)
    totals = [
        per_bin.sum(),
        per_instance.sum(),
        np.square(per_instance).sum(),
        num_instances,
        np.count_nonzero(per_instance == 0),
        1,
    ]
    return np.concatenate((per_bin[1 : num_bins + 1], totals)).astype(np.float32)


def summarise_counts(sampler: str, counts: np.ndarray) -> dict[str, float]:
    """Compute the figures of the training log from the counts of images and iterations.

    Args:
        sampler: name of the sampler: rpn, roi or retinanet.
        counts: (K + 6,) float, a sum of results of `count_samples`.

    Returns:
        - ``<sampler>_negative_share_bin<k>``: the share of the sampled negatives in bin k, from the
          lowest IoU. These are left out if no negative was sampled.
        - ``<sampler>_positives_per_instance`` and ``<sampler>_positives_per_instance_std``: mean
          and standard deviation over ground-truth boxes. These are left out if there were none.
        - ``<sampler>_instances_without_positives``: share of the ground-truth boxes to which no
          positive belongs; left out if there were none.
        - ``<sampler>_positives_per_image`` and ``<sampler>_negatives_per_image``: means over
          images. Weighted negatives count by their weights.
    """
    negatives, positives, squared, instances, bare, images = map(float, counts[-_NUM_TOTALS:])
    figures = {
        f"{sampler}_positives_per_image": positives / images,
        f"{sampler}_negatives_per_image": negatives / images,
    }
    if negatives > 0:
        for index, number in enumerate(counts[:-_NUM_TOTALS]):
            figures[f"{sampler}_negative_share_bin{index}"] = float(number) / negatives
    if instances > 0:
        mean = positives / instances
        figures[f"{sampler}_positives_per_instance"] = mean
        # Because of rounding, the difference of two equal numbers may be below 0.
        variance = max(0.0, squared / instances - mean**2)
        figures[f"{sampler}_positives_per_instance_std"] = math.sqrt(variance)
        figures[f"{sampler}_instances_without_positives"] = bare / instances
    return figures
