"""Decoding of a detector's raw outputs inside the net, with Caffe2's own operators.

The detections have Detectron's names: ``score_nms`` (D,), ``bbox_nms`` (D, 4), ``class_nms`` (D,).
Boxes are x1, y1, x2, y2 in pixels of the image; classes count from 1.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from detectron_ext.config import is_retinanet
from detectron_ext.config.settings import Settings
from detectron_ext.deployment.net_writer import NetWriter
from detectron_ext.errors import ConfigError
from detectron_ext.geometry.anchors import AnchorLevel, grid_anchors, retinanet_anchor_levels

OUTPUTS = ("score_nms", "bbox_nms", "class_nms")
# With an image size that is larger than any image, BBoxTransform clips nothing.
_UNBOUNDED = 1e7
# BBoxTransform limits dw and dh to this value.
_CLIP = np.log(1000.0 / 16.0)


def check_settings(config: Settings) -> None:
    """Refuse settings that Caffe2's operators do not support.

    Raises:
        ConfigError: a setting is not supported; the message names it.
    """
    if config.TEST.BBOX_VOTE.ENABLED:
        raise ConfigError(
            "TEST.BBOX_VOTE has no operator in Caffe2: set TEST.BBOX_VOTE.ENABLED to False"
        )
    if not config.TEST.BBOX_REG:
        raise ConfigError("TEST.BBOX_REG False cannot be exported: set it to True")
    if not np.isclose(config.BBOX_XFORM_CLIP, _CLIP):
        raise ConfigError(
            f"BBOX_XFORM_CLIP must be {_CLIP:.4f}, the value of Caffe2's operator, to be exported"
        )
    for key in ("SOFTMAX", "CLASS_SPECIFIC_BBOX"):
        if is_retinanet(config) and config.RETINANET[key]:
            raise ConfigError(f"RETINANET.{key} True cannot be exported: set it to False")


def add_retinanet_detections(
    writer: NetWriter, config: Settings, sizes: Callable[[str], tuple], image_info: str
) -> None:
    """Add the decoding of RetinaNet's outputs (Lin et al., section 4.1).

    It does the same as :func:`detectron_ext.engine.retinanet_decoding.decode_image`. Exception:
    candidates below RETINANET.INFERENCE_TH are left out on the coarsest level, too.

    Args:
        writer: the net, to which operators are added.
        config: a merged configuration.
        sizes: a function from the name of a blob to its shape (N, C, H, W).
        image_info: name of the blob (1, 3) with height, width and scale of the network's image.
    """
    classes = config.MODEL.NUM_CLASSES
    unbounded = writer.constant("unbounded", np.array([[_UNBOUNDED, _UNBOUNDED, 1]], "f4"))
    parts = [
        _add_level(writer, config, level, sizes(f"retnet_cls_prob{level.suffix}"), unbounded)
        for level in retinanet_anchor_levels(config)
    ]
    names = ("candidate_boxes", "candidate_scores")
    network_boxes, scores = (
        writer.add("Concat", blobs, name, [name + "_split"], axis=0)
        for name, blobs in zip(names, zip(*parts))
    )
    boxes = _to_image_pixels(writer, config, network_boxes, image_info)
    if _edges(config):
        scores = _zero_without_area(writer, boxes, scores)
    repeated = writer.add("Tile", [boxes], "class_boxes", tiles=classes, axis=1)
    _add_suppression(writer, config, scores, repeated, config.RETINANET.INFERENCE_TH, False)


def _edges(config: Settings) -> bool:
    """Return whether the right and bottom sides of boxes are edges, not the last pixels."""
    return config.LIBRA.BOX_CONVENTION == "mmdet"


def _add_level(
    writer: NetWriter,
    config: Settings,
    level: AnchorLevel,
    shape: tuple[int, int, int, int],
    unbounded: str,
) -> tuple[str, str]:
    """Add the best candidates of one pyramid level.

    Args:
        writer: the net, to which operators are added.
        config: a merged configuration.
        level: the anchors of the level.
        shape: (N, C, H, W) of the level's class scores.
        unbounded: name of a blob (1, 3) with an image size for which no box is clipped.

    Returns:
        The names of the blobs of boxes (K, 4), in pixels of the network's image, and of scores (K,
        classes).
    """
    suffix, (_, channels, height, width) = level.suffix, shape
    plane, foreground = height * width, config.MODEL.NUM_CLASSES - 1
    count = min(config.RETINANET.PRE_NMS_TOP_N, channels * plane)

    def add(operator, inputs, name, extra=(), **options):
        extra = [f"{part}{suffix}" for part in extra]
        return writer.add(operator, inputs, name + suffix, extra, **options)

    flat = add("Reshape", [f"retnet_cls_prob{suffix}"], "flat_prob", ["flat_old"], shape=[1, -1])
    scores = add("TopK", [flat], "top_prob", ["top_places", "top_flat"], k=count)
    # A place is an index into a flat array (anchor, class, row, column).
    place = "top_flat" + suffix
    cells = writer.constant(f"plane{suffix}", np.array([plane], np.int64))
    per_anchor = writer.constant(f"plane_classes{suffix}", np.array([plane * foreground], np.int64))
    anchor = add("Div", [place, per_anchor], "top_anchor", broadcast=1)
    first = add("Mul", [anchor, cells], "top_anchor_start", broadcast=1)
    cell = add("Mod", [place], "top_cell", divisor=plane)
    row = add("Add", [first, cell], "top_row")
    plane_number = add("Div", [place, cells], "top_plane", broadcast=1)
    class_number = add("Mod", [plane_number], "top_class", divisor=foreground)

    grid = grid_anchors(level.cell + (0, 0, 1, 1) if _edges(config) else level.cell,
                        level.stride, height, width).reshape(-1, 4)  # fmt: skip
    anchors = writer.constant(f"anchors{suffix}", grid)
    deltas = add(
        "Reshape", [f"retnet_bbox_pred{suffix}"], "box_rows", ["box_old"],
        shape=[len(level.cell), 4, plane],
    )  # fmt: skip
    deltas = add("Transpose", [deltas], "box_columns", axes=[0, 2, 1])
    deltas = add("Reshape", [deltas], "box_list", ["box_list_old"], shape=[-1, 4])
    moved = add(
        "BBoxTransform",
        [add("Gather", [anchors, row], "top_anchors"), add("Gather", [deltas, row], "top_deltas"),
         unbounded],
        "moved", weights=[1.0] * 4, apply_scale=0, legacy_plus_one=int(not _edges(config)),
    )  # fmt: skip
    return moved, _add_class_scores(writer, config, add, scores, class_number)


def _add_class_scores(
    writer: NetWriter,
    config: Settings,
    add: Callable[..., str],
    scores: str,
    class_number: str,
) -> str:
    """Add scores (K, classes): each candidate's score is in the column of its class."""
    one = writer.constant("one", np.array([1], np.int64))
    number = writer.constant("num_classes", np.array([config.MODEL.NUM_CLASSES], np.int64))
    column = add("Add", [class_number, one], "top_column", broadcast=1)
    marks = add("OneHot", [column, number], "top_marks")
    marks = add("Cast", [marks], "top_marks_float", to=1)
    listed = add("Reshape", [scores], "top_scores", ["top_scores_old"], shape=[-1])
    return add("Mul", [marks, listed], "class_scores", broadcast=1, axis=0)


def _zero_without_area(writer: NetWriter, boxes: str, scores: str) -> str:
    """Add scores (K, classes) that are 0 for boxes without area, so that these are left out."""
    corners = [
        writer.add("Slice", [boxes], f"corner_{start}", starts=[0, start], ends=[-1, start + 2])
        for start in (2, 0)
    ]
    sides = writer.add("Sub", corners, "box_sides")
    shorter = writer.add("ReduceMin", [sides], "shorter_sides", axes=[1], keepdims=0)
    nothing = writer.constant("nothing", np.zeros(1, "f4"))
    has_area = writer.add("GT", [shorter, nothing], "has_area", broadcast=1)
    factor = writer.add("Cast", [has_area], "has_area_float", to=1)
    return writer.add("Mul", [scores, factor], "scores_with_area", broadcast=1, axis=0)


def _to_image_pixels(writer: NetWriter, config: Settings, boxes: str, image_info: str) -> str:
    """Divide boxes by the scale and clip them: BBoxTransform with deltas of 0 only clips."""
    scale = writer.add("Slice", [image_info], "im_scale", starts=[0, 2], ends=[-1, 3])
    scale = writer.add("Reshape", [scale], "im_scale_1", ["im_scale_old"], shape=[1])
    boxes = writer.add("Div", [boxes, scale], "image_boxes", broadcast=1)
    unmoved = writer.add("ConstantFill", [boxes], "unmoved", value=0.0)
    size = writer.add("Div", [image_info, scale], "im_size", broadcast=1)
    return writer.add(
        "BBoxTransform", [boxes, unmoved, size], "clipped_boxes",
        weights=[1.0] * 4, apply_scale=0, legacy_plus_one=int(not _edges(config)),
    )  # fmt: skip


def add_region_detections(writer: NetWriter, config: Settings, image_info: str) -> None:
    """Add the decoding of the box head's outputs for the regions in the blob ``rois``.

    It does the same as :func:`detectron_ext.engine.rcnn_decoding.decode_regions`.

    Args:
        writer: the net, to which operators are added.
        config: a merged configuration.
        image_info: name of the blob (1, 3) with height, width and scale of the network's image.
    """
    rois = "rois"
    if _edges(config):
        rois = writer.add("Add", [rois, _offset(writer, 5, 1.0)], "rois_to_edges", broadcast=1)
    agnostic, deltas = config.MODEL.CLS_AGNOSTIC_BBOX_REG, "bbox_pred"
    if agnostic:
        # BoxWithNMSLimit needs the deltas of the object without those of the background.
        deltas = writer.add("Slice", [deltas], "object_pred", starts=[0, 4], ends=[-1, 8])
    boxes = writer.add(
        "BBoxTransform", [rois, deltas, image_info], "pred_bbox",
        weights=[float(weight) for weight in config.MODEL.BBOX_REG_WEIGHTS],
        apply_scale=0, legacy_plus_one=int(not _edges(config)),
    )  # fmt: skip
    _add_suppression(writer, config, "cls_prob", boxes, config.TEST.SCORE_THRESH, agnostic)


def _offset(writer: NetWriter, columns: int, distance: float) -> str:
    """Add a constant that moves the last two of so many columns by a distance in pixels."""
    value = np.array([0] * (columns - 2) + [distance] * 2, "f4")
    return writer.constant(f"far_edges_{columns}", value)


def _add_suppression(
    writer: NetWriter, config: Settings, scores: str, boxes: str, threshold: float, agnostic: bool
) -> None:
    """Add the non-maximum suppression, whose outputs are the detections.

    Args:
        writer: the net, to which operators are added.
        config: a merged configuration.
        scores: name of the blob (K, classes).
        boxes: name of the blob (K, 4 * classes), or (K, 4) with ``agnostic``.
        threshold: candidates with lower scores are left out.
        agnostic: whether all classes share the boxes.
    """
    settings = config.TEST
    score_blob, box_blob, class_blob = OUTPUTS
    kept = box_blob + "_edges" if _edges(config) else box_blob
    writer.add(
        "BoxWithNMSLimit", [scores, boxes], score_blob, [kept, class_blob],
        score_thresh=float(threshold), nms=float(settings.NMS),
        detections_per_im=int(settings.DETECTIONS_PER_IM),
        soft_nms_enabled=int(settings.SOFT_NMS.ENABLED),
        soft_nms_method=settings.SOFT_NMS.METHOD,
        soft_nms_sigma=float(settings.SOFT_NMS.SIGMA), soft_nms_min_score_thres=0.0001,
        cls_agnostic_bbox_reg=int(agnostic), legacy_plus_one=int(not _edges(config)),
    )  # fmt: skip
    if _edges(config):
        writer.add("Add", [kept, _offset(writer, 4, -1.0)], box_blob, broadcast=1)
