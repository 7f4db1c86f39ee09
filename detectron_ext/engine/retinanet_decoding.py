"""From RetinaNet's raw outputs to detections of one image (Lin et al., section 4.1)."""

from __future__ import annotations

import numpy as np

from detectron_ext.engine.suppression import best_detections
from detectron_ext.geometry.anchors import retinanet_cell_anchors
from detectron_ext.geometry.boxes import (
    clip_detections,
    decode,
    has_area,
    to_image_pixels,
)


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
    boxes = clip_detections(to_image_pixels(boxes, scale, config), height, width, config)
    kept = has_area(boxes)
    return best_detections(boxes[kept], scores[kept], classes[kept], config)


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
