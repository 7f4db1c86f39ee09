"""Box voting: a detection's box becomes the mean of the boxes around it.

Gidaris and Komodakis, "Object detection via a multi-region and semantic segmentation-aware CNN
model" (ICCV 2015), section 5. The ways to score the mean box are Detectron's.
"""

from __future__ import annotations

import math

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou

# A power mean of a smaller exponent equals its limit, the geometric mean, to the last digit.
_SMALLEST_EXPONENT = 1e-200


def vote(
    kept: np.ndarray,
    kept_scores: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    method: str = "ID",
    beta: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace each kept box by the score-weighted mean of the boxes that overlap it.

    Args:
        kept: (K, 4) float32 boxes x1, y1, x2, y2 in pixels that suppression left, all of them
            among ``boxes``.
        kept_scores: (K,) float32 scores of the kept boxes, in [0, 1].
        boxes: (N, 4) float32, all boxes of the class before suppression; finite.
        scores: (N,) float32 scores of ``boxes``, in [0, 1].
        threshold: a box takes part if its IoU with the kept box is at least this, in [0, 1].
        method: how the mean box is scored: ID, AVG, IOU_AVG, TEMP_AVG, GENERALIZED_AVG or
            QUASI_SUM (TEST.BBOX_VOTE.SCORING_METHOD); see :func:`_score`.
        beta: parameter of the last three methods; not 0 for TEMP_AVG and GENERALIZED_AVG.

    Returns:
        The mean boxes (K, 4) and their scores (K,), both float32. A kept box that no box with a
        score above 0 overlaps that much stays as it is.

    Raises:
        ValueError: the method is unknown.
    """
    moved, rescored = np.empty_like(kept), np.empty_like(kept_scores)
    overlaps = pairwise_iou(boxes, kept).T
    for index, row in enumerate(overlaps):
        voters = np.flatnonzero(row >= threshold)
        # A kept box without area finds no voters, not even itself: its IoU with itself is 0 / 0.
        if not scores[voters].any():
            moved[index], rescored[index] = kept[index], kept_scores[index]
            continue
        moved[index] = np.average(boxes[voters], axis=0, weights=scores[voters])
        rescored[index] = _score(kept_scores[index], scores[voters], row[voters], method, beta)
    return moved, rescored


def _score(own: float, scores: np.ndarray, overlaps: np.ndarray, method: str, beta: float) -> float:
    """Return the score of a mean box.

    - ID: the kept box's own score.
    - AVG: the mean of the voters' scores.
    - IOU_AVG: the mean of the voters' scores, weighted by their IoU with the kept box.
    - TEMP_AVG: the mean of the voters' probabilities after a softmax with temperature ``beta``
      over "object" and "not object".
    - GENERALIZED_AVG: the power mean of the voters' scores with exponent ``beta``.
    - QUASI_SUM: the sum of the voters' scores, divided by (number of voters) ** ``beta``.

    Args:
        own: score of the kept box.
        scores: (V,) float32 scores of the voters, V >= 1.
        overlaps: (V,) float32 IoU of the voters with the kept box.
        method, beta: as of :func:`vote`.

    Raises:
        ValueError: the method is unknown.
    """
    if method == "ID":
        return own
    if method == "AVG":
        return scores.mean()
    if method == "IOU_AVG":
        return np.average(scores, weights=overlaps) if overlaps.any() else scores.mean()
    if method == "TEMP_AVG":
        return _tempered(scores, beta).mean()
    if method == "GENERALIZED_AVG":
        return _power_mean(scores, beta)
    if method == "QUASI_SUM":
        return _quasi_sum(scores, beta)
    raise ValueError(f"unknown scoring method {method!r} of box voting")


def _tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return s**(1/t) / (s**(1/t) + (1-s)**(1/t)), float64, for scores s in [0, 1].

    Both powers underflow to 0 for a small t. The quotient is the logistic function of logit(s) / t,
    whose parts overflow only where its limit 0 or 1 is reached.
    """
    exact = scores.astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        logits = np.log(exact) - np.log1p(-exact)
        return 1 / (1 + np.exp(-logits / temperature))


def _power_mean(scores: np.ndarray, exponent: float) -> float:
    """Return mean(s**p) ** (1/p) for scores s in [0, 1] and p other than 0.

    The powers are taken relative to the largest of them, in logarithms. So they neither all
    underflow for a large p nor all round to 1 for a small one.
    """
    exponent = math.copysign(max(abs(exponent), _SMALLEST_EXPONENT), exponent)
    with np.errstate(divide="ignore", over="ignore"):
        logs = np.log(scores.astype(np.float64))
        leading = logs.max() if exponent > 0 else logs.min()
        if np.isneginf(leading):
            return 0.0
        relative = np.expm1(exponent * (logs - leading))
        return float(np.exp(leading + np.log1p(relative.mean()) / exponent))


def _quasi_sum(scores: np.ndarray, exponent: float) -> float:
    """Return sum(s) / n**p for n scores s; at most the largest float32."""
    total = scores.sum(dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        result = np.exp(np.log(total) - exponent * math.log(len(scores)))
    return float(min(result, np.finfo(np.float32).max))
