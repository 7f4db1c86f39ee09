"""RetinaNet's pseudo-sampler: IoU-balanced sampling for a detector that trains on every anchor.

RetinaNet draws no samples; the focal loss weighs all anchors by how wrong they are. Two ways carry
the idea of IoU-balanced negatives (Pang et al., Libra R-CNN, CVPR 2019, section 3.1) over to it:
``select`` draws negatives and ignores the others, ``reweight`` keeps all and weighs them by their
IoU bin. Both work on one image at a time.

Neither touches the positives, nor what the loss is divided by, which is their number.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.sampling.iou_balanced import sample_iou_balanced
from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.labels import BACKGROUND, IGNORED


def select_negatives(
    labels: np.ndarray,
    overlaps: np.ndarray,
    rng: np.random.Generator,
    *,
    upper: float,
    num_bins: int,
    neg_per_pos: float,
    min_neg: int,
) -> np.ndarray:
    """Ignore the negatives beyond an IoU-balanced draw of max(min_neg, neg_per_pos * positives).

    Args:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        overlaps: (K,) float32, IoU of each anchor with its best ground truth.
        rng: source of the draw.
        upper: RETINANET.NEGATIVE_OVERLAP, where the bins, which begin at 0, end.
        num_bins, neg_per_pos, min_neg: as in LIBRA.RETINANET_SAMPLER.

    Returns:
        (K,) int32, new: as ``labels``, with -1 for the negatives that were not drawn.
    """
    negatives = np.flatnonzero(labels == BACKGROUND)
    budget = max(min_neg, int(neg_per_pos * np.count_nonzero(labels > BACKGROUND)))
    drawn = sample_iou_balanced(overlaps, negatives, budget, rng, upper=upper, num_bins=num_bins)
    selected = labels.copy()
    selected[negatives] = IGNORED
    selected[drawn] = BACKGROUND
    return selected


def balancing_weights(
    labels: np.ndarray, overlaps: np.ndarray, *, upper: float, num_bins: int
) -> np.ndarray:
    """Weights with which each IoU bin that has negatives counts the same in the loss.

    Of n negatives in b bins that are not empty, one in a bin of m weighs n / (b * m): each bin's
    weights add up to n / b, all to n as without weights.

    Args:
        labels: (K,) int32: class number, 0 background, -1 ignored.
        overlaps: (K,) float32, IoU of each anchor with its best ground truth.
        upper: RETINANET.NEGATIVE_OVERLAP, where the bins, which begin at 0, end.
        num_bins: LIBRA.RETINANET_SAMPLER.NUM_BINS.

    Returns:
        (K,) float32: 1 for positives, and for ignored anchors, which have no loss to weigh.
    """
    weights = np.ones(len(labels), dtype=np.float32)
    negatives = np.flatnonzero(labels == BACKGROUND)
    bins = iou_bins(overlaps[negatives], 0.0, upper, num_bins)
    sizes = np.bincount(bins, minlength=num_bins)
    # The weight of an empty bin is used for no anchor; 1 keeps the division from failing.
    per_bin = len(negatives) / np.maximum(1, np.count_nonzero(sizes) * sizes)
    weights[negatives] = per_bin[bins]
    return weights
