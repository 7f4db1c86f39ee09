"""Non-maximum suppression: greedy and soft, over the boxes of one class."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.boxes import pairwise_iou


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) float32.
        scores: (N,).
        threshold: a box that overlaps a kept, higher-scoring one by at least this IoU is dropped.

    Returns:
        Indices of the kept boxes, best first; of equal scores the earlier box goes first.
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
        boxes: (N, 4) float32.
        scores: (N,).
        threshold: IoU above which "linear" and "hard" act.
        sigma: width of the "gaussian" method.
        min_score: boxes whose score falls below are dropped.
        method: "linear", "gaussian" or "hard".

    Returns:
        (indices of the kept boxes in the order they were picked, their lowered scores).

    Raises:
        ValueError: for an unknown method.
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
        scores[remaining] *= _decay(iou, threshold, sigma, method)
    return np.array(keep, dtype=np.int64), np.array(kept_scores, dtype=np.float32)


def _decay(iou: np.ndarray, threshold: float, sigma: float, method: str) -> np.ndarray:
    if method == "gaussian":
        return np.exp(-(iou**2) / sigma)
    return np.where(iou > threshold, 1 - iou if method == "linear" else 0.0, 1.0)
