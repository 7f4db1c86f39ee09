"""Decoding of a detector's outputs inside an ONNX graph, for one image.

It does the same as `engine.retinanet_decoding` and `engine.rcnn_decoding`. Exception: values that
are not finite are not looked for.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.config.settings import Settings
from detectron_ext.deployment.to_onnx import boxes as box_arithmetic
from detectron_ext.deployment.to_onnx.graph import Graph, Value
from detectron_ext.errors import ConfigError
from detectron_ext.geometry.anchors import AnchorLevel, retinanet_anchor_levels


class ImageSize:
    """Height and width of the image in its own pixels, and network pixels per image pixel."""

    def __init__(self, image_info: Value):
        self.height, self.width, self.scale = (image_info.column(index) for index in range(3))


def check_settings(config: Settings) -> None:
    """Refuse settings that ONNX's operators do not support.

    Raises:
        ConfigError: a setting is not supported; the message names it.
    """
    for key in ("SOFT_NMS", "BBOX_VOTE"):
        if config.TEST[key].ENABLED:
            raise ConfigError(f"TEST.{key} has no operator in ONNX: set TEST.{key}.ENABLED False")


def add_retinanet_detections(
    graph: Graph, config: Settings, blob: Callable[[str], Value], image: ImageSize
) -> tuple[Value, Value, Value]:
    """Add the decoding of RetinaNet's outputs (Lin et al., section 4.1).

    Args:
        graph: gets the nodes.
        config: a merged configuration.
        blob: a function from the name of a blob to its value.
        image: the size of the image.

    Returns:
        See `_best_detections`.
    """
    levels = retinanet_anchor_levels(config)
    candidates = [
        _level_candidates(graph, config, level, blob, level is levels[-1]) for level in levels
    ]
    boxes, scores, classes = (
        graph.concat(parts, 0, name)
        for parts, name in zip(zip(*candidates), ("boxes", "scores", "classes"))
    )
    boxes = box_arithmetic.to_image_pixels(graph, boxes, image.scale, config)
    boxes = box_arithmetic.clip_detections(graph, boxes, image.height, image.width, config)
    width, height = box_arithmetic.sides(boxes)
    kept = (width > 0.0) & (height > 0.0)
    boxes, scores, classes = (value.rows(kept) for value in (boxes, scores, classes))
    # A candidate has a score for its own class alone.
    numbers = graph.constant(np.arange(config.MODEL.NUM_CLASSES - 1)[:, None], np.int64)
    by_class = classes.unsqueeze(0).equals(numbers).to(np.float32) * scores.unsqueeze(0)
    return _best_detections(graph, config, boxes.unsqueeze(0), by_class.unsqueeze(0), 0.0)


def _level_candidates(
    graph: Graph,
    config: Settings,
    level: AnchorLevel,
    blob: Callable[[str], Value],
    is_coarsest: bool,
) -> tuple[Value, Value, Value]:
    """Return boxes (K, 4) in network pixels, scores (K,) and classes (K,) from 0 of a level."""
    settings, anchors = config.RETINANET, len(level.cell)
    scores = blob(f"retnet_cls_prob{level.suffix}")
    height, width = scores.size(2), scores.size(3)
    classes = config.MODEL.NUM_CLASSES - 1
    if settings.SOFTMAX:
        # Class 0 is the background.
        foreground = graph.constant(np.arange(1, classes + 1), np.int64)
        scores = scores.reshape(anchors, classes + 1, height, width).gather(foreground, 1)
    flat = scores.reshape(-1)
    # Detectron takes the candidates of the coarsest level whatever their score.
    above = (flat > (0.0 if is_coarsest else float(settings.INFERENCE_TH))).where_true()
    best_scores, order = flat.gather(above).best(settings.PRE_NMS_TOP_N)
    places = above.gather(order)
    cells = height * width
    cell, plane = places % cells, places // cells
    anchor, class_index = plane // classes, plane % classes
    shifts = [part.to(np.float32) * level.stride for part in (cell % width, cell // width)]
    cell_anchors = graph.constant(level.cell, np.float32, f"anchors{level.suffix}")
    boxes = cell_anchors.gather(anchor) + graph.stack([*shifts, *shifts], -1)
    if config.TEST.BBOX_REG:
        groups = classes if settings.CLASS_SPECIFIC_BBOX else 1
        group = anchor * groups + class_index if settings.CLASS_SPECIFIC_BBOX else anchor
        deltas = blob(f"retnet_bbox_pred{level.suffix}").reshape(anchors * groups, 4, cells)
        deltas = deltas.transpose(0, 2, 1).reshape(-1, 4).gather(group * cells + cell)
        boxes = box_arithmetic.decode(graph, boxes, deltas, (1, 1, 1, 1), config.BBOX_XFORM_CLIP)
    return boxes, best_scores, class_index


def add_region_detections(
    graph: Graph, config: Settings, blob: Callable[[str], Value], image: ImageSize
) -> tuple[Value, Value, Value]:
    """Add the decoding of the box head's outputs for the regions in the blob ``rois``.

    Args:
        graph: gets the nodes.
        config: a merged configuration.
        blob: a function from the name of a blob to its value.
        image: the size of the image.

    Returns:
        See `_best_detections`.
    """
    classes = config.MODEL.NUM_CLASSES - 1
    regions = box_arithmetic.to_image_pixels(
        graph, blob("rois").columns(1, 2, 3, 4), image.scale, config
    ).unsqueeze(0)
    foreground = graph.constant(np.arange(1, classes + 1), np.int64)
    # (classes, R)
    scores = blob("cls_prob").reshape(-1, classes + 1).gather(foreground, 1).transpose(1, 0)
    if not config.TEST.BBOX_REG:
        return _best_detections(
            graph, config, regions, scores.unsqueeze(0), config.TEST.SCORE_THRESH
        )
    agnostic = config.MODEL.CLS_AGNOSTIC_BBOX_REG
    groups = 2 if agnostic else classes + 1
    moving = graph.integers(1) if agnostic else foreground
    # (1 or classes, R, 4)
    deltas = blob("bbox_pred").reshape(-1, groups, 4).gather(moving, 1).transpose(1, 0, 2)
    boxes = box_arithmetic.decode(
        graph, regions, deltas, config.MODEL.BBOX_REG_WEIGHTS, config.BBOX_XFORM_CLIP
    )
    boxes = box_arithmetic.clip_detections(graph, boxes, image.height, image.width, config)
    scores = scores.unsqueeze(0 if agnostic else 1)
    return _best_detections(graph, config, boxes, scores, config.TEST.SCORE_THRESH)


def _best_detections(
    graph: Graph, config: Settings, boxes: Value, scores: Value, lowest: float
) -> tuple[Value, Value, Value]:
    """Suppress duplicates within each class and keep the best detections of all classes.

    Args:
        graph: gets the nodes.
        config: TEST.NMS and TEST.DETECTIONS_PER_IM.
        boxes: (1, K, 4) boxes of all classes, or (classes, K, 4).
        scores: (1, classes, K), or (classes, 1, K).
        lowest: candidates with this score or a lower one are left out.

    Returns:
        boxes (D, 4) float32 x1, y1, x2, y2 in pixels of the image, scores (D,) float32, classes
        (D,) int64 from 1; best score first.
    """
    # Detectron drops a box whose overlap equals the threshold, too; ONNX only above it.
    overlap = float(np.nextafter(np.float32(config.TEST.NMS), np.float32(-1)))
    kept = box_arithmetic.suppress(graph, boxes, scores, overlap, lowest)
    best, order = scores.gather_nd(kept).best(config.TEST.DETECTIONS_PER_IM)
    kept = kept.gather(order)
    chosen = boxes.gather_nd(kept.columns(0, 2))
    # Either the first or the second number is the class; the other one is 0.
    return chosen, best, kept.column(0) + kept.column(1) + 1
