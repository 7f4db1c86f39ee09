"""Makes regions of interest from the RPN's outputs.

The RPN's outputs become proposals. In training, proposals are sampled and labelled. On a feature
pyramid, each region gets a level.
"""

from __future__ import annotations

from detectron_ext.config.settings import Settings
from detectron_ext.geometry.anchors import rpn_anchor_levels
from detectron_ext.geometry.roi_levels import roi_level_names
from detectron_ext.modeling.box_edges import shift_far_edges
from detectron_ext.modeling.devices import add_cpu_operator
from detectron_ext.modeling.model import DetectionModel
from detectron_ext.modeling.proposal_operators import BestProposals, LabelledProposals
from detectron_ext.sampling.proposal_targets import proposal_blob_names

_ABOVE_ZERO = 1e-6


def add_proposals(model: DetectionModel) -> None:
    """Add the proposals of every level of the RPN.

    Blobs of each level, with its suffix: ``rpn_rois`` (R, 5) float32 rows (image, x1, y1, x2, y2)
    in network pixels, and ``rpn_roi_probs`` (R,) float32.

    Caffe2's operator takes the RPN_PRE_NMS_TOP_N best anchors of each image and level. It moves
    them by the predicted deltas and clips them to the image. It drops boxes that have a side below
    RPN_MIN_SIZE or a center outside the image. Then it applies non-maximum suppression and keeps
    the RPN_POST_NMS_TOP_N best. If RPN_NMS_THRESH is 0 or less, it suppresses nothing and keeps
    all.
    """
    settings = model.config.TRAIN if model.train else model.config.TEST
    suppresses = settings.RPN_NMS_THRESH > 0
    to_edges = model.config.LIBRA.BOX_CONVENTION == "mmdet"
    for suffix, stride, cell in rpn_anchor_levels(model.config):
        probabilities = model.net.Sigmoid(f"rpn_cls_logits{suffix}", f"rpn_cls_probs{suffix}")
        # In mmdetection's convention a box can have no area. It is no proposal then.
        cell = cell + (0, 0, 1, 1) if to_edges else cell
        min_size = max(settings.RPN_MIN_SIZE, _ABOVE_ZERO if to_edges else 0)
        rois = f"rpn_rois{suffix}" + ("_edges" if to_edges else "")
        # A constant of the graph, not a parameter.
        anchors = model.param_init_net.GivenTensorFill(
            [], f"rpn_anchors{suffix}", shape=cell.shape, values=cell.ravel().tolist()
        )
        model.net.GenerateProposals(
            [probabilities, f"rpn_bbox_pred{suffix}", "im_info", anchors],
            [rois, f"rpn_roi_probs{suffix}"],
            spatial_scale=1.0 / stride,
            pre_nms_topN=settings.RPN_PRE_NMS_TOP_N,
            post_nms_topN=settings.RPN_POST_NMS_TOP_N if suppresses else -1,
            nms_thresh=float(settings.RPN_NMS_THRESH) if suppresses else 1.0,
            min_size=float(min_size),
            legacy_plus_one=int(not to_edges),
        )
        if to_edges:
            shift_far_edges(model, rois, f"rpn_rois{suffix}", -1.0)


def add_best_proposals(model: DetectionModel) -> None:
    """Merge the proposals of all levels, as the output of a model with MODEL.RPN_ONLY.

    Blobs: ``rpn_rois`` (R, 5) and ``rpn_roi_probs`` (R,), the RPN_POST_NMS_TOP_N best of all
    images, best first.
    """
    if not model.config.FPN.FPN_ON:
        return
    merge = BestProposals(model.config.TEST.RPN_POST_NMS_TOP_N)
    outputs = ["rpn_rois", "rpn_roi_probs"]
    model.net.Python(merge.forward)(_level_outputs(model.config), outputs, name="BestProposals")


def add_labelled_proposals(model: DetectionModel) -> None:
    """Add an operator that samples and labels proposals and ground-truth boxes.

    It makes the blobs of `proposal_blob_names`. It reads ``gt_boxes`` (G, 7) float32 rows (image,
    x1, y1, x2, y2, class, is_crowd) in network pixels, and ``sampling_seed`` (1,) int64, which
    decides the draw.
    """
    config = model.config
    if config.FPN.FPN_ON:
        add_cpu_operator(
            model, "CollectRpnProposals", _level_outputs(config), ["rpn_rois"],
            rpn_min_level=config.FPN.RPN_MIN_LEVEL,
            rpn_max_level=config.FPN.RPN_MAX_LEVEL,
            rpn_post_nms_topN=config.TRAIN.RPN_POST_NMS_TOP_N,
        )  # fmt: skip
    outputs = proposal_blob_names(config)
    label = LabelledProposals(config, outputs)
    inputs = ["rpn_rois", "gt_boxes", "sampling_seed"]
    model.net.Python(label.forward)(inputs, outputs, name="LabelledProposals")


def add_test_rois(model: DetectionModel) -> None:
    """Add ``rois``, the regions of a test image, from the proposals of all levels.

    On a pyramid also the blobs of `roi_level_names` are added. A region of area A belongs to level
    floor(ROI_CANONICAL_LEVEL + log2(sqrt(A) / ROI_CANONICAL_SCALE)) (FPN, equation 1), or to the
    nearest level that exists.
    """
    fpn = model.config.FPN
    if not fpn.FPN_ON:
        model.net.Alias("rpn_rois", "rois")
        return
    outputs = ["rois", *roi_level_names("rois", model.config)]
    add_cpu_operator(
        model, "CollectAndDistributeFpnRpnProposals", _level_outputs(model.config), outputs,
        roi_canonical_scale=fpn.ROI_CANONICAL_SCALE,
        roi_canonical_level=fpn.ROI_CANONICAL_LEVEL,
        roi_min_level=fpn.ROI_MIN_LEVEL,
        roi_max_level=fpn.ROI_MAX_LEVEL,
        rpn_min_level=fpn.RPN_MIN_LEVEL,
        rpn_max_level=fpn.RPN_MAX_LEVEL,
        rpn_post_nms_topN=model.config.TEST.RPN_POST_NMS_TOP_N,
        legacy_plus_one=1,
    )  # fmt: skip


def _level_outputs(config: Settings) -> list[str]:
    suffixes = [level.suffix for level in rpn_anchor_levels(config)]
    return [name + suffix for name in ("rpn_rois", "rpn_roi_probs") for suffix in suffixes]
