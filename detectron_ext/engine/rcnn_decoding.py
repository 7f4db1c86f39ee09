"""From the box head's raw outputs to detections of one image (Girshick, "Fast R-CNN")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectron_ext.engine.suppression import best_detections
from detectron_ext.geometry.boxes import clip_detections, decode

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def decode_regions(
    boxes: np.ndarray,
    probabilities: np.ndarray,
    deltas: np.ndarray,
    height: int,
    width: int,
    config: Settings,
) -> np.ndarray:
    """Decode the box head's outputs for one image.

    Values that are not finite follow the rule of `engine.suppression`.

    Args:
        boxes: (R, 4) float32 regions x1, y1, x2, y2 in pixels of the image.
        probabilities: (R, classes) float32, background first.
        deltas: (R, 4 * classes) float32; with MODEL.CLS_AGNOSTIC_BBOX_REG (R, 8), four for
            background and four for every class.
        height, width: size of the image in its own pixels.
        config: a merged configuration.

    Returns:
        (D, 6) float32 rows x1, y1, x2, y2, score, class (from 1), best score first; at most
        TEST.DETECTIONS_PER_IM.
    """
    region, class_index = np.nonzero(probabilities[:, 1:] > config.TEST.SCORE_THRESH)
    classes = class_index + 1
    candidates = boxes[region]
    if config.TEST.BBOX_REG:
        group = -1 if config.MODEL.CLS_AGNOSTIC_BBOX_REG else classes
        moves = deltas.reshape(len(boxes), deltas.shape[1] // 4, 4)[region, group]
        candidates = decode(
            candidates, moves, config.MODEL.BBOX_REG_WEIGHTS, config.BBOX_XFORM_CLIP
        )
        candidates = clip_detections(candidates, height, width, config)
    return best_detections(candidates, probabilities[region, classes], classes, config)


def merge_duplicates(boxes: np.ndarray, config: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Find proposals that pool the same features, so that each is run once.

    Proposals are the same if they round to the same multiples of 1 / DEDUP_BOXES; the first of them
    is run. With DEDUP_BOXES 0 or less every proposal is run.

    Args:
        boxes: (P, 4) proposals from a file, in network pixels.
        config: a merged configuration.

    Returns:
        first: (R,) int64, indices of the proposals to run.
        which: (P,) int64, for each proposal its row in ``first``.
    """
    if config.DEDUP_BOXES <= 0:
        everything = np.arange(len(boxes))
        return everything, everything
    _, first, which = np.unique(
        np.round(boxes * config.DEDUP_BOXES), axis=0, return_index=True, return_inverse=True
    )
    return first, which
