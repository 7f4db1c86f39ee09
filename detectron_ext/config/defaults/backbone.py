"""Defaults of the backbone: ResNet and ResNeXt, feature pyramid, GroupNorm."""

from __future__ import annotations

RESNETS = {
    # Groups of the 3x3 convolutions: 1 is a ResNet, more a ResNeXt.
    "NUM_GROUPS": 1,
    # Channels of one group in the first stage.
    "WIDTH_PER_GROUP": 64,
    # Stride in a block's first 1x1 convolution, as in MSRA's weights, or in its 3x3.
    "STRIDE_1X1": True,
    # Names of the functions that build the residual branch, the stem and the shortcut.
    "TRANS_FUNC": "bottleneck_transformation",
    "STEM_FUNC": "basic_bn_stem",
    "SHORTCUT_FUNC": "basic_bn_shortcut",
    # Dilation of the last stage; above 1 it keeps the resolution of the stage before.
    "RES5_DILATION": 1,
}

FPN = {
    # The backbone ends in a feature pyramid.
    "FPN_ON": False,
    # Channels of every pyramid level.
    "DIM": 256,
    # Start the lateral connections at zero.
    "ZERO_INIT_LATERAL": False,
    # Stride of the coarsest level; image sides are padded to a multiple of it. A multiple of 32.
    "COARSEST_STRIDE": 32,
    # Make the levels above P5 by stride-2 convolutions, as RetinaNet does, not by subsampling.
    "EXTRA_CONV_LEVELS": False,
    # GroupNorm in the pyramid's own layers.
    "USE_GN": False,
    # ---- Regions of interest ----
    # Pool each region from the level that fits its size.
    "MULTILEVEL_ROIS": False,
    # A region with sides of ROI_CANONICAL_SCALE pixels belongs to level ROI_CANONICAL_LEVEL.
    "ROI_CANONICAL_SCALE": 224,
    "ROI_CANONICAL_LEVEL": 4,
    # Coarsest and finest level that regions are pooled from.
    "ROI_MAX_LEVEL": 5,
    "ROI_MIN_LEVEL": 2,
    # ---- RPN and RetinaNet ----
    # Predict proposals (or RetinaNet's detections) at every level.
    "MULTILEVEL_RPN": False,
    # Coarsest and finest level with anchors.
    "RPN_MAX_LEVEL": 6,
    "RPN_MIN_LEVEL": 2,
    # Height-to-width ratios of the RPN's anchors.
    "RPN_ASPECT_RATIOS": (0.5, 1, 2),
    # Side in pixels of the RPN's anchors at the finest level; it doubles from level to level.
    "RPN_ANCHOR_START_SIZE": 32,
}

GROUP_NORM = {
    # Channels in a group, or -1 when the number of groups is given. One of the two is -1.
    "DIM_PER_GP": -1,
    # Number of groups, or -1 when the channels in a group are given.
    "NUM_GROUPS": 32,
    # Added to the variance before its root is taken.
    "EPSILON": 1e-5,
}
