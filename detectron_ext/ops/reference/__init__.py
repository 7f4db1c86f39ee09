"""Every operator's definition in numpy at float64: what the implementations are checked against.

Written to be read, not to be fast. A function `f` has its gradient beside it as `f_gradient`: it
takes the gradient of the output last and returns the gradient of each input that has one.
"""

from __future__ import annotations

from detectron_ext.ops.reference.attention import (
    embedded_gaussian_attention,
    embedded_gaussian_attention_gradient,
)
from detectron_ext.ops.reference.box_losses import (
    balanced_l1,
    balanced_l1_loss,
    balanced_l1_loss_gradient,
    balanced_l1_slope,
    select_balanced_l1_loss,
    select_balanced_l1_loss_gradient,
    select_smooth_l1_loss,
    select_smooth_l1_loss_gradient,
    smooth_l1,
    smooth_l1_loss,
    smooth_l1_loss_gradient,
    smooth_l1_slope,
)
from detectron_ext.ops.reference.focal_losses import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
    softmax_focal_loss,
    softmax_focal_loss_gradient,
    weighted_sigmoid_focal_loss,
    weighted_sigmoid_focal_loss_gradient,
)
from detectron_ext.ops.reference.non_local import non_local_block, non_local_block_gradient
from detectron_ext.ops.reference.pyramid import (
    adaptive_max_pool,
    adaptive_max_pool_gradient,
    balanced_pyramid_gather,
    balanced_pyramid_gather_gradient,
    balanced_pyramid_scatter,
    balanced_pyramid_scatter_gradient,
    nearest_resize,
    nearest_resize_gradient,
    upsample_nearest,
    upsample_nearest_gradient,
)
from detectron_ext.ops.reference.regions import (
    roi_max_pool,
    roi_max_pool_gradient,
    sigmoid_cross_entropy_loss,
    sigmoid_cross_entropy_loss_gradient,
    spatial_narrow_as,
    spatial_narrow_as_gradient,
)
from detectron_ext.ops.reference.softmax import (
    group_spatial_softmax,
    group_spatial_softmax_gradient,
)

__all__ = [
    "adaptive_max_pool",
    "adaptive_max_pool_gradient",
    "balanced_l1",
    "balanced_l1_loss",
    "balanced_l1_loss_gradient",
    "balanced_l1_slope",
    "balanced_pyramid_gather",
    "balanced_pyramid_gather_gradient",
    "balanced_pyramid_scatter",
    "balanced_pyramid_scatter_gradient",
    "embedded_gaussian_attention",
    "embedded_gaussian_attention_gradient",
    "group_spatial_softmax",
    "group_spatial_softmax_gradient",
    "nearest_resize",
    "nearest_resize_gradient",
    "non_local_block",
    "non_local_block_gradient",
    "roi_max_pool",
    "roi_max_pool_gradient",
    "select_balanced_l1_loss",
    "select_balanced_l1_loss_gradient",
    "select_smooth_l1_loss",
    "select_smooth_l1_loss_gradient",
    "sigmoid_cross_entropy_loss",
    "sigmoid_cross_entropy_loss_gradient",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_gradient",
    "smooth_l1",
    "smooth_l1_loss",
    "smooth_l1_loss_gradient",
    "smooth_l1_slope",
    "softmax_focal_loss",
    "softmax_focal_loss_gradient",
    "spatial_narrow_as",
    "spatial_narrow_as_gradient",
    "upsample_nearest",
    "upsample_nearest_gradient",
    "weighted_sigmoid_focal_loss",
    "weighted_sigmoid_focal_loss_gradient",
]
