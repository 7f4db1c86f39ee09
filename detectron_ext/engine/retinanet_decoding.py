"""From RetinaNet's raw outputs to detections of one image (Lin et al., ICCV 2017, section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectron_ext.engine.suppression import best_detections
from detectron_ext.geometry.anchors import retinanet_cell_anchors
from detectron_ext.geometry.boxes import (
    clip_detections,
    decode,
    has_area,
    to_image_pixels,
)

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def decode_image(
    outputs: dict, scale: float, height: int, width: int, config: Settings
) -> np.ndarray:
    """Decode the outputs of RetinaNet's heads for one image.

    Values that are not finite follow the rule of `engine.suppression`.

    Args:
        outputs: pyramid level to a pair of float32 arrays: probabilities (A * classes, H, W) and
            box deltas (A * 4, H, W), or (A * 4 * classes, H, W) with
            RETINANET.CLASS_SPECIFIC_BBOX. With RETINANET.SOFTMAX the classes include the
            background.
        scale: network pixels per image pixel.
        height, width: size of the image in its own pixels.
        config: a merged configuration.

    Returns:
        (D, 6) float32 rows x1, y1, x2, y2, score, class (from 1) in pixels of the image, best score
        first; at most TEST.DETECTIONS_PER_IM.
    """
    coarsest = max(outputs)
    levels = []
    for level, (probabilities, deltas) in outputs.items():
        # The coarsest level has few cells. Detectron takes its candidates whatever their score, so
        # that every image has some.
        threshold = config.RETINANET.INFERENCE_TH if level < coarsest else 0.0
        levels.append(_level_candidates(level, probabilities, deltas, threshold, config))
    boxes, scores, classes = (np.concatenate(parts) for parts in zip(*levels))
    boxes = clip_detections(to_image_pixels(boxes, scale, config), height, width, config)
    kept = has_area(boxes)
    return best_detections(boxes[kept], scores[kept], classes[kept], config)


def _level_candidates(
    level: int,
    probabilities: np.ndarray,
    deltas: np.ndarray,
    threshold: float,
    config: Settings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes (K, 4), scores (K,) and classes (K,) of one level's best candidates.

    K is at most RETINANET.PRE_NMS_TOP_N; boxes are in network pixels, classes count from 1.
    """
    cell = retinanet_cell_anchors(level, config)
    num_anchors = len(cell)
    grid = probabilities.shape[1:]
    probabilities = probabilities.reshape((num_anchors, -1) + grid)
    if config.RETINANET.SOFTMAX:
        probabilities = probabilities[:, 1:]
    flat = probabilities.ravel()
    candidates = np.flatnonzero(flat > threshold)
    # An infinite score would take the place of a usable one; NaN is not above the threshold.
    candidates = candidates[np.isfinite(flat[candidates])]
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
