"""Box voting: a detection's box becomes a mean of the boxes around it.

Gidaris and Komodakis, "Object detection via a multi-region and semantic segmentation-aware CNN
model" (ICCV 2015), section 5; the ways to score are Detectron's.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou


def vote(
    kept: np.ndarray,
    kept_scores: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    method: str = "ID",
    beta: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Average, weighted by score, the boxes that overlap each kept one by at least a threshold.

    Args:
        kept: (K, 4) float32, the boxes that suppression left.
        kept_scores: (K,) float32.
        boxes: (N, 4) float32, all boxes of the class before suppression.
        scores: (N,) float32 from 0 to 1, above 0.
        threshold: IoU from which a box takes part; at most 1, so that each kept box does.
        method: how the mean is scored; see :func:`_score`.
        beta: parameter of that method.

    Returns:
        The moved boxes (K, 4) and their scores (K,), float32.
    """
    moved, rescored = np.empty_like(kept), np.empty_like(kept_scores)
    overlaps = pairwise_iou(boxes, kept).T
    for index, row in enumerate(overlaps):
        voters = np.flatnonzero(row >= threshold)
        moved[index] = np.average(boxes[voters], axis=0, weights=scores[voters])
        rescored[index] = _score(kept_scores[index], scores[voters], row[voters], method, beta)
    return moved, rescored


def _score(own, scores, overlaps, method, beta):
    """Score of a mean of boxes.

    - ID: the detection's own.
    - AVG: the mean of the voters'; IOU_AVG: weighted by their overlap.
    - TEMP_AVG: the mean after a softmax of temperature beta over object and not object.
    - GENERALIZED_AVG: the power mean of exponent beta.
    - QUASI_SUM: the sum over number**beta.
    """
    if method == "ID":
        return own
    if method == "AVG":
        return scores.mean()
    if method == "IOU_AVG":
        return np.average(scores, weights=overlaps)
    if method == "TEMP_AVG":
        object_, other = scores ** (1 / beta), (1 - scores) ** (1 / beta)
        return (object_ / (object_ + other)).mean()
    if method == "GENERALIZED_AVG":
        return np.mean(scores**beta) ** (1 / beta)
    if method == "QUASI_SUM":
        return scores.sum() / len(scores) ** beta
    raise ValueError(f"unknown scoring method {method!r} of box voting")
