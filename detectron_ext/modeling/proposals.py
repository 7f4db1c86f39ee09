"""From the RPN's outputs to regions of interest: proposals, their training labels, their levels."""

from __future__ import annotations

import numpy as np

from detectron_ext.geometry.anchors import rpn_cell_anchors
from detectron_ext.modeling.devices import add_cpu_operator
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.proposal_operators import BestProposals, LabelledProposals
from detectron_ext.modeling.rpn import rpn_suffixes


def roi_level_blobs(config) -> list:
    """Blobs that say which pyramid level a region is pooled from: ``rois_fpn<level>`` (R_l, 5) and
    ``rois_idx_restore_int32`` (R,), which brings the levels' regions, one level after another,
    back into the order of ``rois``. None without a pyramid."""
    if not config.FPN.FPN_ON:
        return []
    levels = range(config.FPN.ROI_MIN_LEVEL, config.FPN.ROI_MAX_LEVEL + 1)
    return [*(f"rois_fpn{level}" for level in levels), "rois_idx_restore_int32"]


def labelled_roi_blobs(config) -> list:
    """Blobs that the Fast R-CNN head trains on, in the order of the labelling operator's outputs.

    ``rois`` (R, 5), ``labels_int32`` (R,), and ``bbox_targets``, ``bbox_inside_weights`` and
    ``bbox_outside_weights``, each (R, 4 * box classes); then :func:`roi_level_blobs`.
    """
    boxes = ["bbox_targets", "bbox_inside_weights", "bbox_outside_weights"]
    return ["rois", "labels_int32", *boxes, *roi_level_blobs(config)]


def add_proposals(model: DetectionModel, pyramid: Pyramid) -> None:
    """Add the proposals of every level of the RPN.

    Blobs ``rpn_rois`` (R, 5) rows (image, x1, y1, x2, y2) in network pixels and ``rpn_roi_probs``
    (R,), with the suffix of the level. Caffe2's operator takes the RPN_PRE_NMS_TOP_N best anchors
    of an image and level, moves them, clips them to the image, drops those with a side below
    RPN_MIN_SIZE or a center outside, and keeps the RPN_POST_NMS_TOP_N best that non-maximum
    suppression leaves.
    """
    settings = model.config.TRAIN if model.train else model.config.TEST
    for level, suffix in zip(pyramid.levels, rpn_suffixes(model.config, pyramid)):
        probabilities = model.net.Sigmoid(f"rpn_cls_logits{suffix}", f"rpn_cls_probs{suffix}")
        anchors = _add_anchors(model, level, suffix)
        model.net.GenerateProposals(
            [probabilities, f"rpn_bbox_pred{suffix}", "im_info", anchors],
            [f"rpn_rois{suffix}", f"rpn_roi_probs{suffix}"],
            spatial_scale=1.0 / 2**level,
            pre_nms_topN=settings.RPN_PRE_NMS_TOP_N,
            post_nms_topN=settings.RPN_POST_NMS_TOP_N,
            nms_thresh=float(settings.RPN_NMS_THRESH),
            min_size=float(settings.RPN_MIN_SIZE),
            legacy_plus_one=1,
        )


def _add_anchors(model, level, suffix):
    """The anchors of one cell: a constant, which is no parameter."""
    cell = rpn_cell_anchors(level, model.config).astype(np.float32)
    return model.param_init_net.GivenTensorFill(
        [], f"rpn_anchors{suffix}", shape=cell.shape, values=cell.ravel().tolist()
    )


def add_best_proposals(model: DetectionModel, pyramid: Pyramid) -> None:
    """Merge the levels' proposals of all images: the RPN_POST_NMS_TOP_N best, best first.

    The output of a model with MODEL.RPN_ONLY: ``rpn_rois`` and ``rpn_roi_probs``.
    """
    if not model.config.FPN.FPN_ON:
        return
    merge = BestProposals(model.config.TEST.RPN_POST_NMS_TOP_N)
    outputs = ["rpn_rois", "rpn_roi_probs"]
    model.net.Python(merge.forward)(_level_outputs(model, pyramid), outputs, name="BestProposals")


def add_labelled_proposals(model: DetectionModel, pyramid: Pyramid) -> None:
    """Add :func:`labelled_roi_blobs`: proposals and ground-truth boxes, sampled and labelled.

    Reads ``gt_boxes`` (G, 7) rows (image, x1, y1, x2, y2, class, is_crowd) in network pixels and
    ``sampling_seed`` (1,) int64, which decides the draw.
    """
    if model.config.FPN.FPN_ON:
        add_cpu_operator(
            model, "CollectRpnProposals", _level_outputs(model, pyramid), ["rpn_rois"],
            rpn_min_level=pyramid.levels[0], rpn_max_level=pyramid.levels[-1],
            rpn_post_nms_topN=model.config.TRAIN.RPN_POST_NMS_TOP_N,
        )  # fmt: skip
    outputs = labelled_roi_blobs(model.config)
    label = LabelledProposals(model.config, outputs)
    inputs = ["rpn_rois", "gt_boxes", "sampling_seed"]
    model.net.Python(label.forward)(inputs, outputs, name="LabelledProposals")


def add_test_rois(model: DetectionModel, pyramid: Pyramid) -> None:
    """Add ``rois`` and :func:`roi_level_blobs` from the proposals of all levels.

    A region of area A belongs to level
    floor(ROI_CANONICAL_LEVEL + log2(sqrt(A) / ROI_CANONICAL_SCALE)), within the levels there are
    (FPN, equation 1).
    """
    fpn = model.config.FPN
    if not fpn.FPN_ON:
        model.net.Alias("rpn_rois", "rois")
        return
    outputs = ["rois", *roi_level_blobs(model.config)]
    add_cpu_operator(
        model, "CollectAndDistributeFpnRpnProposals", _level_outputs(model, pyramid), outputs,
        roi_canonical_scale=fpn.ROI_CANONICAL_SCALE,
        roi_canonical_level=fpn.ROI_CANONICAL_LEVEL,
        roi_min_level=fpn.ROI_MIN_LEVEL,
        roi_max_level=fpn.ROI_MAX_LEVEL,
        rpn_min_level=pyramid.levels[0],
        rpn_max_level=pyramid.levels[-1],
        rpn_post_nms_topN=model.config.TEST.RPN_POST_NMS_TOP_N,
        legacy_plus_one=1,
    )  # fmt: skip


def _level_outputs(model, pyramid):
    suffixes = rpn_suffixes(model.config, pyramid)
    return [name + suffix for name in ("rpn_rois", "rpn_roi_probs") for suffix in suffixes]
