"""IoU-balanced negatives (Pang et al., Libra R-CNN, CVPR 2019, section 3.1).

Most negatives hardly overlap an object. A uniform draw therefore contains few of those that overlap
one more, which are the hard ones. Here the range of IoU is divided into bins of equal width, and
each bin gives an equal part of the draw.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.sampling.iou_bins import iou_bins
from detectron_ext.sampling.random_sampling import sample_random


def sample_iou_balanced(
    overlaps: np.ndarray,
    candidates: np.ndarray,
    count: int,
    rng: np.random.Generator,
    *,
    upper: float,
    num_bins: int = 3,
    floor_thresh: float = 0.0,
    floor_fraction: float = 0.0,
    bin_range: str = "negatives",
) -> np.ndarray:
    """Draw negatives evenly over bins of their IoU with the ground truth.

    If there are at most ``count`` candidates, all are taken. Otherwise:

    1. Candidates with an IoU below ``floor_thresh`` form one pool. The others are put into bins.
    2. All but ``round(count * floor_fraction)`` negatives are drawn from the bins: an equal part
       from each bin, or the whole bin if it has fewer. What is missing is drawn from the rest of
       all bins, each candidate with the same probability. If the bins together hold no more than
       this number, all of it is taken.
    3. The rest of ``count`` is drawn from the pool below the floor. If that has too few, the rest
       is drawn from all candidates left.

    ``bin_range`` selects where the bins end and how numbers are rounded:

    - **negatives**: K bins over [floor_thresh, upper). If K does not divide the number to draw, the
      bins of the highest IoU draw one more each. If the floor is 0, no box is below it, and boxes
      that touch no object belong to the lowest bin.
    - **mmdet**: the rule of mmdetection's IoUBalancedNegSampler.

      - The bins end at the largest overlap of any box, positives included. ``upper`` is not used.
      - The number to draw from the bins is ``int(count * (1 - floor_fraction))``. Floating-point
        rounding can make it one less than expected, for example for a fraction of 0.9.
      - Each bin draws number // K. The remainder is drawn from the rest of all bins.
      - If the floor is 0, boxes with overlap 0 are below the floor, not in the lowest bin.
      - The box with the largest overlap is in no bin. Exception: with one bin it belongs to it.
      - A floor of 0 stands for the ``floor_thr=-1`` of mmdetection's configurations, which becomes
        0 there after the first image.

      This rule is not the default. Positives, above all ground-truth boxes that were added as
      proposals, raise the largest overlap to 1. The bins above the threshold of negatives are then
      always empty, and their part of the draw becomes uniform: mostly easy boxes.

    Args:
        overlaps: (K,) float, the IoU of every box with its best ground-truth box.
        candidates: (N,) int64, the indices of the negatives, each once. Their overlaps lie in
            [0, upper).
        count: number of negatives to draw, at least 0.
        rng: source of the draw.
        upper: IoU below which boxes are negative, above floor_thresh.
        num_bins: number K of bins, at least 1.
        floor_thresh: IoU in [0, 1] at which the first bin begins.
        floor_fraction: fraction of the draw, in [0, 1], that comes from below the floor.
        bin_range: "negatives" or "mmdet".

    Returns:
        (min(count, N),) int64, distinct elements of ``candidates``, in the order of these.
    """
    if count >= len(candidates):
        return candidates
    iou = overlaps[candidates]
    follows_mmdet = bin_range == "mmdet"
    below = iou <= 0 if follows_mmdet and floor_thresh == 0 else iou < floor_thresh
    binned = ~below
    drawn = np.zeros(len(candidates), dtype=bool)
    wanted = _number_binned(count, floor_fraction, follows_mmdet)
    if num_bins > 1 and np.count_nonzero(binned) > wanted:
        end = float(overlaps.max()) if follows_mmdet else upper
        bins = iou_bins(iou, floor_thresh, end, num_bins)
        parts = _equal_parts(wanted, num_bins, spread_remainder=not follows_mmdet)
        for index, part in enumerate(parts):
            _draw(drawn, binned & (bins == index), part, rng)
    _draw(drawn, binned, wanted - np.count_nonzero(drawn), rng)
    _draw(drawn, below, count - np.count_nonzero(drawn), rng)
    _draw(drawn, np.ones_like(drawn), count - np.count_nonzero(drawn), rng)
    return candidates[drawn]


def _number_binned(count: int, floor_fraction: float, follows_mmdet: bool) -> int:
    """Return how many of ``count`` come from the bins. The others come from below the floor."""
    if follows_mmdet:
        return int(count * (1 - floor_fraction))
    return count - round(count * floor_fraction)


def _equal_parts(total: int, num_parts: int, spread_remainder: bool) -> np.ndarray:
    """Return total // num_parts for each part. The last parts get one more of the remainder each,
    unless ``spread_remainder`` is False."""
    parts = np.full(num_parts, total // num_parts)
    if spread_remainder and total % num_parts:
        parts[-(total % num_parts) :] += 1
    return parts


def _draw(drawn: np.ndarray, pool: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Mark ``count`` more candidates of the pool as drawn, or all that are left in it."""
    if count > 0:
        drawn[sample_random(np.flatnonzero(pool & ~drawn), count, rng)] = True
