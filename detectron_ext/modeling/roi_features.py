"""Features of regions of interest: each region's part of the map, resized to one size."""

from __future__ import annotations

from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.box_edges import shift_far_edges
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.model import DetectionModel

_METHODS = ("RoIAlign", "RoIPoolF")


def add_roi_features(model: DetectionModel, pyramid: Pyramid, blob_out: str) -> str:
    """Pool every region of ``rois`` from the level it belongs to.

    FAST_RCNN.ROI_XFORM_METHOD: RoIAlign (Mask R-CNN, section 3; ROI_XFORM_SAMPLING_RATIO squared
    bilinear samples a bin, 0 for as many as the bin has cells) or RoIPoolF (Fast R-CNN, section
    2.1: the maximum of a bin).

    Returns:
        ``blob_out``: (R, dim, r, r) with r = FAST_RCNN.ROI_XFORM_RESOLUTION, regions in the order
        of ``rois``.

    Raises:
        ConfigError: for another method.
    """
    if model.config.FAST_RCNN.ROI_XFORM_METHOD not in _METHODS:
        raise ConfigError(
            f"FAST_RCNN.ROI_XFORM_METHOD {model.config.FAST_RCNN.ROI_XFORM_METHOD!r} is not one "
            f"this builds: {', '.join(_METHODS)}"
        )
    if not model.config.FPN.FPN_ON:
        _add_transform(model, pyramid.blobs[0], "rois", blob_out, pyramid.levels[0])
        return blob_out
    pooled = [f"{blob_out}_fpn{level}" for level in pyramid.levels]
    for blob, level, output in zip(pyramid.blobs, pyramid.levels, pooled):
        _add_transform(model, blob, f"rois_fpn{level}", output, level)
    shuffled = [f"{blob_out}_shuffled", f"_concat_{blob_out}"]
    by_level, _ = model.net.Concat(pooled, shuffled, axis=0)
    model.net.BatchPermutation([by_level, "rois_idx_restore_int32"], blob_out)
    return blob_out


def _add_transform(model, blob, rois, blob_out, level):
    settings = model.config.FAST_RCNN
    options = {
        "pooled_h": settings.ROI_XFORM_RESOLUTION,
        "pooled_w": settings.ROI_XFORM_RESOLUTION,
        "spatial_scale": 1.0 / 2**level,
    }
    if settings.ROI_XFORM_METHOD == "RoIAlign":
        options["sampling_ratio"] = settings.ROI_XFORM_SAMPLING_RATIO
        if model.config.LIBRA.BOX_CONVENTION == "mmdet":
            rois = shift_far_edges(model, rois, f"{rois}_edges", 1.0)
            options["aligned"] = 1
        model.net.RoIAlign([blob, rois], blob_out, **options)
    else:
        ops.roi_max_pool(model.net, blob, rois, blob_out, f"_argmax_{blob_out}", **options)
