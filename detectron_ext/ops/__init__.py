"""Operators of Libra R-CNN and of Detectron, as functions that add them to a Caffe2 net.

Importing this package loads the operator libraries (`library.load`). Each function adds the native
operator if one can run on the device in scope. Otherwise it adds a Python operator, which computes
the same numbers. The functions are the front-ends of the table of operators (`table`), and
docs/operators.md describes them all. `reference` holds the float64 definition of every operator.
"""

from __future__ import annotations

from detectron_ext.ops import library, operators, reference
from detectron_ext.ops.library import native_library_loaded
from detectron_ext.ops.operators.affine_channel_clip import affine_channel_clip
from detectron_ext.ops.operators.balanced_pyramid import (
    balanced_pyramid_gather,
    balanced_pyramid_scatter,
)
from detectron_ext.ops.operators.box_losses import (
    balanced_l1_loss,
    select_balanced_l1_loss,
    select_smooth_l1_loss,
    smooth_l1_loss,
    weighted_select_balanced_l1_loss,
    weighted_select_smooth_l1_loss,
)
from detectron_ext.ops.operators.embedded_gaussian_attention import embedded_gaussian_attention
from detectron_ext.ops.operators.focal_losses import (
    sigmoid_focal_loss,
    softmax_focal_loss,
    weighted_sigmoid_focal_loss,
)
from detectron_ext.ops.operators.gradient_mass import negative_gradient_mass
from detectron_ext.ops.operators.group_spatial_softmax import group_spatial_softmax
from detectron_ext.ops.operators.non_local_block import non_local_block
from detectron_ext.ops.operators.quality_focal import quality_focal_loss
from detectron_ext.ops.operators.roi_max_pool import roi_max_pool
from detectron_ext.ops.operators.selected_anchors import (
    scale_anchors,
    select_box_iou,
    select_sigmoid_focal_loss,
)
from detectron_ext.ops.operators.sigmoid_cross_entropy_loss import sigmoid_cross_entropy_loss
from detectron_ext.ops.operators.spatial_narrow_as import spatial_narrow_as
from detectron_ext.ops.operators.upsample_nearest import upsample_nearest

__all__ = [
    "affine_channel_clip",
    "balanced_l1_loss",
    "balanced_pyramid_gather",
    "balanced_pyramid_scatter",
    "embedded_gaussian_attention",
    "group_spatial_softmax",
    "library",
    "native_library_loaded",
    "negative_gradient_mass",
    "non_local_block",
    "operators",
    "quality_focal_loss",
    "reference",
    "roi_max_pool",
    "scale_anchors",
    "select_balanced_l1_loss",
    "select_box_iou",
    "select_sigmoid_focal_loss",
    "select_smooth_l1_loss",
    "sigmoid_cross_entropy_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "spatial_narrow_as",
    "upsample_nearest",
    "weighted_select_balanced_l1_loss",
    "weighted_select_smooth_l1_loss",
    "weighted_sigmoid_focal_loss",
]

library.load()
