"""Keys of the backbone: ResNet and ResNeXt, feature pyramid, GroupNorm."""

from __future__ import annotations

from detectron_ext.config.keys.key import WITH_ANCHORS, WITH_BOX_HEAD, WITH_RPN, Key, Section
from detectron_ext.config.rules import above, at_least, at_most, between, not_above, positives

RESNETS = Section(
    "The ResNet or ResNeXt of the backbone.",
    affects_weights=True,
    NUM_GROUPS=Key(
        1,
        "Groups of the 3x3 convolutions: 1 is a ResNet, more is a ResNeXt.",
        at_least(1),
        at_most(4096),
    ),
    WIDTH_PER_GROUP=Key(
        64, "Channels of one group in the first stage.", at_least(1), at_most(4096)
    ),
    STRIDE_1X1=Key(
        True,
        "Put the stride of a block into its first 1x1 convolution. Weights from MSRA need this. "
        "False puts it into the 3x3 convolution.",
    ),
    TRANS_FUNC=Key(
        "bottleneck_transformation",
        "Name of the function that builds the residual branch.",
    ),
    STEM_FUNC=Key("basic_bn_stem", "Name of the function that builds the stem."),
    SHORTCUT_FUNC=Key("basic_bn_shortcut", "Name of the function that builds the shortcut."),
    RES5_DILATION=Key(
        1,
        "Dilation of the last stage, res5. Above 1, the stage keeps the resolution of res4. A "
        "pyramid needs 1.",
        at_least(1),
        at_most(64),
    ),
)

FPN = Section(
    "The feature pyramid network (FPN).",
    affects_weights=True,
    FPN_ON=Key(False, "Build a feature pyramid on the backbone."),
    DIM=Key(256, "Channels of every pyramid level.", above(0), at_most(16384)),
    ZERO_INIT_LATERAL=Key(False, "Initialize the weights of the lateral convolutions with zeros."),
    COARSEST_STRIDE=Key(
        32,
        "Stride of the coarsest level, a multiple of 32. The sides of images are padded to a "
        "multiple of this stride.",
        above(0),
        at_most(4096),
    ),
    EXTRA_CONV_LEVELS=Key(
        False,
        "Make the levels above P5 by convolutions of stride 2, as RetinaNet does. False makes P6 "
        "by subsampling P5.",
    ),
    USE_GN=Key(False, "Use GroupNorm in the pyramid's own layers."),
    # ---- Regions of interest ----
    MULTILEVEL_ROIS=Key(
        False, "Pool each region from the level that fits its size.", used_by=WITH_BOX_HEAD
    ),
    ROI_CANONICAL_SCALE=Key(
        224,
        "A region with sides of this many pixels belongs to level ROI_CANONICAL_LEVEL.",
        at_least(1),
        used_by=WITH_BOX_HEAD,
    ),
    ROI_CANONICAL_LEVEL=Key(
        4,
        "Level of a region whose sides are ROI_CANONICAL_SCALE pixels long.",
        used_by=WITH_BOX_HEAD,
    ),
    ROI_MAX_LEVEL=Key(5, "Coarsest level from which regions are pooled.", used_by=WITH_BOX_HEAD),
    ROI_MIN_LEVEL=Key(
        2,
        "Finest level from which regions are pooled.",
        not_above("FPN.ROI_MAX_LEVEL"),
        used_by=WITH_BOX_HEAD,
    ),
    # ---- RPN and RetinaNet ----
    MULTILEVEL_RPN=Key(
        False,
        "Predict proposals (or RetinaNet's detections) at every level.",
        used_by=WITH_ANCHORS,
    ),
    RPN_MAX_LEVEL=Key(6, "Coarsest level with anchors.", at_most(16), used_by=WITH_ANCHORS),
    RPN_MIN_LEVEL=Key(
        2,
        "Finest level with anchors.",
        not_above("FPN.RPN_MAX_LEVEL"),
        used_by=WITH_ANCHORS,
    ),
    RPN_ASPECT_RATIOS=Key(
        (0.5, 1, 2),
        "Height-to-width ratios of the RPN's anchors.",
        positives(1),
        used_by=WITH_RPN,
    ),
    RPN_ANCHOR_START_SIZE=Key(
        32,
        "Side in pixels of the RPN's anchors at the finest level. It doubles from level to level.",
        at_least(1),
        used_by=WITH_RPN,
    ),
)

GROUP_NORM = Section(
    "GroupNorm. One of DIM_PER_GP and NUM_GROUPS must be -1, the other one must be above 0.",
    affects_weights=True,
    DIM_PER_GP=Key(-1, "Channels in a group, or -1 if NUM_GROUPS is given."),
    NUM_GROUPS=Key(32, "Number of groups, or -1 if DIM_PER_GP is given."),
    EPSILON=Key(
        1e-5, "A number added to the variance before the square root.", between(1e-30, 1e6)
    ),
)
