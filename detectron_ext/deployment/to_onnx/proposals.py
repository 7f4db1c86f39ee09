"""The region proposals of Faster R-CNN inside an ONNX graph, for one image."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from detectron_ext.deployment.to_onnx import boxes as box_arithmetic
from detectron_ext.deployment.to_onnx.graph import Graph, Value

_MAX_LOG_SCALE = float(np.log(1000.0 / 16.0))  # of Caffe2's operator


class ProposalSettings(NamedTuple):
    """How proposals are made on one level.

    Attributes:
        stride: pixels between neighbouring cells of the map.
        most_anchors: the most anchors that are moved; 0 or less for all.
        most_boxes: the most proposals; 0 or less for all.
        max_overlap: intersection over union, above which the worse box is dropped.
        min_size: smallest side, in pixels of the image before scaling.
        plus_one: 1 if corners are pixels, 0 if they are edges.
    """

    stride: float
    most_anchors: int
    most_boxes: int
    max_overlap: float
    min_size: float
    plus_one: float


def make_proposals(
    graph: Graph,
    scores: Value,
    deltas: Value,
    image_info: Value,
    anchors: Value,
    settings: ProposalSettings,
) -> tuple[Value, Value]:
    """Add Caffe2's operator GenerateProposals; ``ops/kernels/proposals.h`` describes it.

    Args:
        graph: gets the nodes.
        scores: (1, A, H, W).
        deltas: (1, 4 * A, H, W).
        image_info: (1, 3) height, width and scale of the network's image.
        anchors: (A, 4), the anchors of the first cell.
        settings: see `ProposalSettings`.

    Returns:
        Proposals (R, 5) float32 rows image, x1, y1, x2, y2 and their scores (R,), best first.
    """
    width = scores.size(3)
    cells = scores.size(2) * width
    best_scores, places = scores.reshape(-1).best(settings.most_anchors)
    cell = places % cells
    shifts = [(part.to(np.float32) * settings.stride) for part in (cell % width, cell // width)]
    moved = anchors.gather(places // cells) + graph.stack([*shifts, *shifts], -1)
    by_anchor = deltas.reshape(-1, 4, cells).transpose(0, 2, 1).reshape(-1, 4).gather(places)
    one = settings.plus_one
    boxes = box_arithmetic.decode(graph, moved, by_anchor, (1, 1, 1, 1), _MAX_LOG_SCALE, one)
    height_width = [image_info.reshape(3).column(index) for index in (0, 1)]
    limits = [height_width[1] - one, height_width[0] - one] * 2
    boxes = boxes.minimum(graph.stack(limits, 0, "limits")).maximum(0.0)
    kept = _usable(boxes, height_width, image_info.reshape(3).column(2), settings)
    boxes, best_scores = boxes.rows(kept), best_scores.rows(kept)
    if settings.max_overlap < 1 or settings.most_boxes > 0:
        boxes, best_scores = _suppress(graph, boxes, best_scores, settings)
    images = boxes.columns(0) * 0.0
    return graph.concat([images, boxes], 1, "proposals"), best_scores


def _usable(
    boxes: Value, height_width: list[Value], scale: Value, settings: ProposalSettings
) -> Value:
    """Return which boxes (R, 4) have their centre inside the image and are large enough."""
    min_size = scale * settings.min_size
    width, height = box_arithmetic.sides(boxes, settings.plus_one)
    center_x, center_y = boxes.column(0) + width * 0.5, boxes.column(1) + height * 0.5
    inside = (center_x < height_width[1]) & (center_y < height_width[0])
    return inside & (width >= min_size) & (height >= min_size)


def _suppress(
    graph: Graph, boxes: Value, scores: Value, settings: ProposalSettings
) -> tuple[Value, Value]:
    # suppress() turns pixels into edges by adding 1, so edges go in one pixel earlier.
    pixels = boxes if settings.plus_one else boxes - graph.floats(0, 0, 1, 1)
    rows = box_arithmetic.suppress(
        graph, pixels.unsqueeze(0), scores.reshape(1, 1, -1), settings.max_overlap,
        lowest=-1.0, most=settings.most_boxes,
    ).column(2)  # fmt: skip
    return boxes.gather(rows), scores.gather(rows)


def distribute(
    graph: Graph,
    rois: Sequence[Value],
    scores: Sequence[Value],
    most: int,
    canonical_scale: int,
    canonical_level: int,
    levels: range,
) -> list[Value]:
    """Add Caffe2's operator CollectAndDistributeFpnRpnProposals.

    In Caffe2, regions are sorted by level, pooled, and sorted back. Here they stay in the order of
    their levels: the order of regions does not change the detections.

    Args:
        graph: gets the nodes.
        rois: proposals (R_l, 5) of each level of the RPN.
        scores: their scores (R_l,).
        most: the best so many are taken.
        canonical_scale, canonical_level: a region of this side belongs to this level.
        levels: the levels that regions are pooled from.

    Returns:
        The regions of all levels (R, 5), then those of each level, then a value in place of the
        order.
    """
    _, order = graph.concat(scores, 0, "proposal_scores").best(most)
    best = graph.concat(rois, 0, "all_proposals").gather(order)
    width, height = box_arithmetic.sides(best.columns(1, 2, 3, 4))
    side = (width * height).apply("Sqrt") / float(canonical_scale)
    # ONNX has the natural logarithm alone.
    octave = (side + 1e-6).apply("Log") / float(np.log(2.0))
    level = (octave + float(canonical_level)).apply("Floor")
    level = level.maximum(float(levels[0])).minimum(float(levels[-1]))
    parts = [best.rows(level.equals(float(number))) for number in levels]
    return [graph.concat(parts, 0, "rois"), *parts, order]
