"""Non-maximum suppression: greedy and soft, over the boxes of one class."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels; finite.
        scores: (N,) float; finite.
        threshold: a box is dropped if its IoU with a kept box of a higher score is at least this.
            Two boxes without area (IoU 0 / 0) count as overlapping.

    Returns:
        (K,) int64 indices of the kept boxes, best score first. Of equal scores the earlier box goes
        first.
    """
    order = np.argsort(-scores, kind="stable")
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        if len(order):
            order = order[pairwise_iou(boxes[order], boxes[best : best + 1])[:, 0] < threshold]
    return np.array(keep, dtype=np.int64)


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    method: str = "linear",
) -> tuple[np.ndarray, np.ndarray]:
    """Soft-NMS (Bodla et al., ICCV 2017): lower the scores of overlapping boxes.

    Args:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels; finite.
        scores: (N,) float; finite.
        threshold: IoU above which "linear" and "hard" lower a score. Two boxes without area
            (IoU 0 / 0) count as overlapping fully.
        sigma: width of the "gaussian" method, above 0.
        min_score: a box is dropped if its lowered score is below this.
        method: "linear" multiplies a score by 1 - IoU, "gaussian" by exp(-IoU**2 / sigma), "hard"
            by 0.

    Returns:
        keep: (K,) int64 indices of the kept boxes, in the order in which they were picked.
        kept_scores: (K,) float32, their lowered scores.

    Raises:
        ValueError: the method is unknown.
    """
    if method not in ("linear", "gaussian", "hard"):
        raise ValueError(f"unknown soft-NMS method {method!r}: linear, gaussian or hard")
    scores = scores.astype(np.float64)
    remaining = np.arange(len(boxes))
    keep, kept_scores = [], []
    while len(remaining):
        pick = int(np.argmax(scores[remaining]))
        best = remaining[pick]
        if scores[best] < min_score:
            break
        keep.append(best)
        kept_scores.append(scores[best])
        remaining = np.delete(remaining, pick)
        iou = pairwise_iou(boxes[remaining], boxes[best : best + 1])[:, 0]
        scores[remaining] *= _decay(np.nan_to_num(iou, nan=1.0), threshold, sigma, method)
    return np.array(keep, dtype=np.int64), np.array(kept_scores, dtype=np.float32)


def _decay(iou: np.ndarray, threshold: float, sigma: float, method: str) -> np.ndarray:
    """Return the factors (N,) that :func:`soft_nms` lowers scores by."""
    if method == "gaussian":
        return np.exp(-(iou**2) / sigma)
    return np.where(iou > threshold, 1 - iou if method == "linear" else 0.0, 1.0)
