"""Features of regions of interest, pooled to the same size for all regions."""

from __future__ import annotations

from typing import Any

from detectron_ext import ops
from detectron_ext.errors import ConfigError
from detectron_ext.modeling.box_edges import shift_far_edges
from detectron_ext.modeling.fpn import Pyramid
from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel

_METHODS = ("RoIAlign", "RoIPoolF")


def add_roi_features(model: DetectionModel, pyramid: Pyramid, blob_out: str) -> str:
    """Pool the features of every region in ``rois`` from the region's pyramid level.

    FAST_RCNN.ROI_XFORM_METHOD selects how:

    - RoIAlign (Mask R-CNN, section 3) takes ROI_XFORM_SAMPLING_RATIO squared bilinear samples in
      each bin, or for 0 as many as the bin has cells.
    - RoIPoolF (Fast R-CNN, section 2.1) takes the maximum of each bin.

    Args:
        model: gets the operators; FAST_RCNN of its configuration is used.
        pyramid: the maps to pool from.
        blob_out: name of the features.

    Returns:
        ``blob_out``, float32 (R, dim, r, r) with r = FAST_RCNN.ROI_XFORM_RESOLUTION, in the order
        of ``rois``.

    Raises:
        ConfigError: another method.
    """
    if model.config.FAST_RCNN.ROI_XFORM_METHOD not in _METHODS:
        raise ConfigError(
            f"FAST_RCNN.ROI_XFORM_METHOD {model.config.FAST_RCNN.ROI_XFORM_METHOD!r} is not built "
            f"here: set {' or '.join(_METHODS)}"
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


def _add_transform(
    model: DetectionModel, blob: Blob, rois: Blob, blob_out: str, level: int
) -> None:
    settings = model.config.FAST_RCNN
    options: dict[str, Any] = {
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
