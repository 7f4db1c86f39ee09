"""Keys of the region proposal network and of its proposals, and of R-FCN's pooling."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, WITH_RPN, Formerly, Inferred, Key, Section
from detectron_ext.config.rules import positives

RPN = Section(
    "The region proposal network (RPN). SIZES, STRIDE and ASPECT_RATIOS are for models without a "
    "pyramid. Models with a pyramid use FPN.RPN_ANCHOR_START_SIZE and FPN.RPN_ASPECT_RATIOS.",
    affects_weights=True,
    used_by=WITH_RPN,
    RPN_ON=Key(
        False,
        "The model has an RPN.",
        inferred=Inferred(True, if_any=("MODEL.RPN_ONLY", "MODEL.FASTER_RCNN")),
    ),
    SIZES=Key(
        (64, 128, 256, 512), "Sides of the anchors in pixels of the resized image.", positives(1)
    ),
    STRIDE=Key(
        16,
        "Stride of the RPN's feature map: pixels of the resized image between neighbouring "
        "positions.",
    ),
    ASPECT_RATIOS=Key((0.5, 1, 2), "Height-to-width ratios of the anchors.", positives(1)),
)

RFCN = Section(
    "The pooling of R-FCN.",
    used_by=UPSTREAM_ONLY,
    PS_GRID_SIZE=Key(
        3,
        "Rows and columns of the position-sensitive pooling grid.",
        formerly=Formerly("MODEL.PS_GRID_SIZE"),
    ),
)

# Proposals that the RPN makes: the same keys in TRAIN and in TEST.
RPN_NMS_THRESH = Key(
    0.7,
    "If the IoU of two proposals is above this, the one with the lower score is removed "
    "(non-maximum suppression).",
    used_by=WITH_RPN,
)
RPN_PRE_NMS_TOP_N = Key(
    12000,
    "Largest number of proposals, those with the highest scores, that enter non-maximum "
    "suppression. With a pyramid, each level has this number.",
    used_by=WITH_RPN,
)
RPN_POST_NMS_TOP_N = Key(
    2000,
    "Largest number of proposals that are kept after non-maximum suppression. With a pyramid, all "
    "levels together have this number.",
    used_by=WITH_RPN,
)
RPN_MIN_SIZE = Key(
    0,
    "Only proposals whose sides are longer than this are kept. The unit is a pixel of the original "
    "image.",
    used_by=WITH_RPN,
)
