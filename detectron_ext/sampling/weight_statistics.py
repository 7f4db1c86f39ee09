"""How well positives are predicted and weighed, for the training log.

The figures of steps and of replicas can be added up. The layout of an array of them is:

    [positives, their IoUs, their weights, positives above IoU 0.75, weights above IoU 0.75,
     rank correlations of the instances that have one, these instances]

An instance is a ground-truth box. Its rank correlation (Spearman) is that of score and IoU over its
positives. If it is below 0, the detector ranks the instance's worse boxes above the better ones.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.sampling.positive_weights import Positives

WEIGHTS = "weights"
"""Name of the figures among the samplers, see `sampling_statistics.counts_blob`."""

_GOOD_IOU = 0.75
# The correlation of two positives is always 1 or -1.
_FEWEST_RANKED = 3


def count_weights(positives: Positives, weights: np.ndarray) -> np.ndarray:
    """Add up the figures of one minibatch.

    Args:
        positives: the P positives.
        weights: (P,) float32, their weights in the class loss.

    Returns:
        (7,) float32 in the layout of this module.
    """
    good = positives.iou > _GOOD_IOU
    correlations = _rank_correlations(positives)
    return np.array(
        [
            len(weights),
            positives.iou.sum(),
            weights.sum(),
            good.sum(),
            weights[good].sum(),
            sum(correlations),
            len(correlations),
        ],
        dtype=np.float32,
    )


def _rank_correlations(positives: Positives) -> list[float]:
    """Return the correlations of the instances with three positives that are not all equal."""
    from scipy.stats import rankdata  # importing it takes a third of a tool's start

    order = np.argsort(positives.instance, kind="stable")
    _, starts = np.unique(positives.instance[order], return_index=True)
    correlations = []
    for rows in np.split(order, starts[1:]):
        if len(rows) < _FEWEST_RANKED:
            continue
        ranks = np.array([rankdata(values[rows]) for values in (positives.iou, positives.score)])
        if (np.ptp(ranks, axis=1) > 0).all():
            correlations.append(float(np.corrcoef(ranks)[0, 1]))
    return correlations


def summarise_weights(counts: np.ndarray) -> dict[str, float]:
    """Compute the figures of the training log.

    Args:
        counts: (7,) float, a sum of results of `count_weights`.

    Returns:
        - ``positive_iou``: mean IoU of the positives' predicted boxes.
        - ``positive_share_above_iou75``: share of the positives with an IoU above 0.75.
        - ``weight_share_above_iou75``: their share in the weights.
        - ``score_iou_correlation``: mean rank correlation of an instance.

        Figures without a positive, a weight or a correlation are left out.
    """
    positives, ious, weights, good, good_weights, correlations, instances = map(float, counts)
    figures = {}
    if positives > 0:
        figures["positive_iou"] = ious / positives
        figures["positive_share_above_iou75"] = good / positives
    if weights > 0:
        figures["weight_share_above_iou75"] = good_weights / weights
    if instances > 0:
        figures["score_iou_correlation"] = correlations / instances
    return figures
