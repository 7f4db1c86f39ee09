"""IoU-balanced negatives (Pang et al., Libra R-CNN, CVPR 2019, section 3.1).

Most negatives barely touch an object, so a uniform draw seldom meets one that overlaps it much and
is hard to tell from it. Here the range of IoU is cut into bins of equal width that each give an
equal part of the draw.
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

    When there are no more candidates than ``count``, all are taken. Else

    1. candidates below the floor ``floor_thresh`` form one pool, the others are binned;
    2. all but ``round(count * floor_fraction)`` are drawn from the binned ones: an equal part from
       each bin (a bin that has fewer gives all), then what is missing from all binned ones left,
       each with the same chance. Binned ones that are no more than this number are all taken;
    3. the rest of ``count`` comes from below the floor, and where that has too few, from all
       candidates left.

    ``bin_range`` says where the bins end and how rounding goes:

    - **negatives**: K bins over [floor_thresh, upper). Of a number that K does not divide, the bins
      of the highest IoU draw one more each. With a floor of 0 nothing is below it, and boxes that
      touch no object belong to the lowest bin.
    - **mmdet**: the rule of mmdetection's IoUBalancedNegSampler. The bins reach from floor_thresh
      up to the largest overlap of any box, positives included, and ``upper`` is not used. Each bin
      draws number // K and the remainder is drawn from all binned ones left. The number itself is
      ``int(count * (1 - floor_fraction))``, one less where 1 - 0.9 is stored a little below 0.1.
      With a floor of 0 the boxes of overlap 0 are below the floor, not in the lowest bin. The box
      whose overlap is the largest is in no bin (only one bin takes it). mmdetection's
      ``floor_thr=-1``, which its configurations name, turns into 0 after its first image there: 0
      stands for it here.

      It is not the default because positives, ground truth that was added as proposals above all,
      push the largest overlap to 1: bins beyond the threshold of negatives are empty by
      construction, and their part of the draw falls back on a uniform one, mostly of easy boxes.

    Args:
        overlaps: (K,) float, IoU of every box with its best ground truth.
        candidates: (N,) int64 indices of the negatives, each once; overlaps in [0, upper).
        count: how many to draw, at least 0.
        rng: source of the draw.
        upper: IoU below which boxes are negative, above floor_thresh.
        num_bins: K, at least 1.
        floor_thresh: IoU in [0, 1] at which the bins begin.
        floor_fraction: part of the draw, in [0, 1], that comes from below the floor.
        bin_range: negatives or mmdet.

    Returns:
        (min(count, N),) int64 of the candidates, distinct, in their order.
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
    """How many of ``count`` the bins give; the floor gives the others."""
    if follows_mmdet:
        return int(count * (1 - floor_fraction))
    return count - round(count * floor_fraction)


def _equal_parts(total: int, num_parts: int, spread_remainder: bool) -> np.ndarray:
    """total // num_parts each; the remainder one by one to the last parts, or to none."""
    parts = np.full(num_parts, total // num_parts)
    if spread_remainder and total % num_parts:
        parts[-(total % num_parts) :] += 1
    return parts


def _draw(drawn: np.ndarray, pool: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Mark ``count`` more candidates of the pool as drawn, or all it has left."""
    if count > 0:
        drawn[sample_random(np.flatnonzero(pool & ~drawn), count, rng)] = True
