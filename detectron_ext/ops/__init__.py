"""Operators of Libra R-CNN and of Detectron, as functions that add them to a Caffe2 net.

Importing this package loads the operator libraries (`library.load`). Each function adds the native
operator where one can run on the device in scope, and a Python operator of the same numbers
elsewhere. `reference` holds the float64 definition of every operator.
"""

from __future__ import annotations

from detectron_ext.ops import library
from detectron_ext.ops.attention import embedded_gaussian_attention
from detectron_ext.ops.library import native_library_loaded
from detectron_ext.ops.losses import (
    balanced_l1_loss,
    select_balanced_l1_loss,
    select_smooth_l1_loss,
    sigmoid_cross_entropy_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
    softmax_focal_loss,
    weighted_sigmoid_focal_loss,
)
from detectron_ext.ops.non_local import non_local_block
from detectron_ext.ops.pyramid import balanced_pyramid_gather, balanced_pyramid_scatter
from detectron_ext.ops.regions import roi_max_pool, spatial_narrow_as
from detectron_ext.ops.resize import upsample_nearest
from detectron_ext.ops.softmax import group_spatial_softmax

__all__ = [
    "balanced_l1_loss",
    "balanced_pyramid_gather",
    "balanced_pyramid_scatter",
    "embedded_gaussian_attention",
    "group_spatial_softmax",
    "native_library_loaded",
    "non_local_block",
    "roi_max_pool",
    "select_balanced_l1_loss",
    "select_smooth_l1_loss",
    "sigmoid_cross_entropy_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "spatial_narrow_as",
    "upsample_nearest",
    "weighted_sigmoid_focal_loss",
]

library.load()
