"""From RetinaNet's raw outputs to detections of one image (Lin et al., section 4.1)."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.anchors import retinanet_cell_anchors
from detectron_ext.geometry.boxes import clip_to_image, decode
from detectron_ext.geometry.nms import nms, soft_nms

_SOFT_NMS_MIN_SCORE = 0.0001


def decode_image(outputs: dict, scale: float, height: int, width: int, config) -> np.ndarray:
    """Detections of one image.

    Args:
        outputs: level to (probabilities (A * classes, H, W), box deltas (A * 4 [* classes], H, W)).
        scale: network pixels per image pixel.
        height, width: size of the image in its own pixels.

    Returns:
        (D, 6) float32 rows x1, y1, x2, y2, score, class (1-based), best score first; at most
        TEST.DETECTIONS_PER_IM.
    """
    coarsest = max(outputs)
    levels = []
    for level, (probabilities, deltas) in outputs.items():
        # The coarsest level has few cells, and keeping its best whatever their score is how
        # Detectron makes sure that every image has candidates.
        threshold = config.RETINANET.INFERENCE_TH if level < coarsest else 0.0
        levels.append(_level_candidates(level, probabilities, deltas, threshold, config))
    boxes, scores, classes = (np.concatenate(parts) for parts in zip(*levels))
    boxes = clip_to_image(boxes / np.float32(scale), height, width)
    detections = [
        _suppress(boxes[classes == number], scores[classes == number], number, config)
        for number in np.unique(classes)
    ]
    if not detections:
        return np.zeros((0, 6), dtype=np.float32)
    merged = np.concatenate(detections)
    best = np.argsort(-merged[:, 4], kind="stable")[: config.TEST.DETECTIONS_PER_IM]
    return merged[best]


def _level_candidates(level, probabilities, deltas, threshold, config):
    """The best PRE_NMS_TOP_N boxes of one level: boxes (K, 4), scores (K,), classes (K,)."""
    cell = retinanet_cell_anchors(level, config)
    num_anchors = len(cell)
    grid = probabilities.shape[1:]
    probabilities = probabilities.reshape((num_anchors, -1) + grid)
    if config.RETINANET.SOFTMAX:
        probabilities = probabilities[:, 1:]
    flat = probabilities.ravel()
    candidates = np.flatnonzero(flat > threshold)
    most = config.RETINANET.PRE_NMS_TOP_N
    if len(candidates) > most:
        candidates = candidates[np.argpartition(-flat[candidates], most - 1)[:most]]
    anchor, class_index, y, x = np.unravel_index(candidates, probabilities.shape)
    stride = 2.0**level
    boxes = (cell[anchor] + np.stack((x, y, x, y), axis=1) * stride).astype(np.float32)
    if config.TEST.BBOX_REG:
        deltas = deltas.reshape((num_anchors, -1, 4) + grid)
        group = class_index if config.RETINANET.CLASS_SPECIFIC_BBOX else 0
        boxes = decode(boxes, deltas[anchor, group, :, y, x], max_log_scale=config.BBOX_XFORM_CLIP)
    return boxes, flat[candidates], class_index + 1


def _suppress(boxes, scores, number, config):
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
    class_column = np.full((len(keep), 1), number)
    return np.hstack((boxes[keep], kept_scores[:, None], class_column)).astype(np.float32)
