"""From scored boxes of all classes to the detections of one image: the same for every detector.

The rule for values that are not finite, here and in the kernel that makes proposals
(``ops/kernels/proposals.h``): a candidate is dropped if its score or one of its four deltas is NaN
or infinite. Finite deltas may be of any size: the box is clipped to the image.

`geometry.boxes.decode` returns NaN for a box whose deltas are not finite, and clipping keeps NaN.
:func:`best_detections` drops these boxes, and the candidates whose scores are not finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectron_ext.geometry.box_voting import vote
from detectron_ext.geometry.nms import nms, soft_nms

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_SOFT_NMS_MIN_SCORE = 0.0001


def best_detections(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, config: Settings
) -> np.ndarray:
    """Suppress duplicates within each class and keep the best detections of all classes.

    Args:
        boxes: (K, 4) float32 candidates x1, y1, x2, y2; one that is not finite is dropped.
        scores: (K,) float32; a candidate whose score is not finite is dropped.
        classes: (K,) int, from 1.
        config: TEST.NMS, TEST.SOFT_NMS, TEST.BBOX_VOTE, TEST.DETECTIONS_PER_IM.

    Returns:
        (D, 6) float32 rows x1, y1, x2, y2, score, class, best score first. D is at most
        DETECTIONS_PER_IM; if that is 0 or less there is no limit.
    """
    finite = np.isfinite(scores) & np.isfinite(boxes).all(axis=1)
    boxes, scores, classes = boxes[finite], scores[finite], classes[finite]
    detections = [
        _suppress(boxes[classes == number], scores[classes == number], number, config)
        for number in np.unique(classes)
    ]
    if not detections:
        return np.zeros((0, 6), dtype=np.float32)
    merged = np.concatenate(detections)
    most = config.TEST.DETECTIONS_PER_IM
    best = np.argsort(-merged[:, 4], kind="stable")
    return merged[best[:most] if most > 0 else best]


def _suppress(boxes: np.ndarray, scores: np.ndarray, number: int, config: Settings) -> np.ndarray:
    """Return the detections (D, 6) of class ``number`` from its boxes (K, 4) and scores (K,)."""
    settings = config.TEST.SOFT_NMS
    if settings.ENABLED:
        keep, kept_scores = soft_nms(
            boxes,
            scores,
            threshold=config.TEST.NMS,
            sigma=settings.SIGMA,
            min_score=_SOFT_NMS_MIN_SCORE,
            method=settings.METHOD,
        )
    else:
        keep = nms(boxes, scores, config.TEST.NMS)
        kept_scores = scores[keep]
    kept = boxes[keep]
    voting = config.TEST.BBOX_VOTE
    if voting.ENABLED:
        kept, kept_scores = vote(
            kept,
            kept_scores,
            boxes,
            scores,
            voting.VOTE_TH,
            voting.SCORING_METHOD,
            voting.SCORING_METHOD_BETA,
        )
    class_column = np.full((len(kept), 1), number)
    return np.hstack((kept, kept_scores[:, None], class_column)).astype(np.float32)
