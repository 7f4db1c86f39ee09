"""Keys of the region proposal network and of its proposals, and of R-FCN's pooling."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, WITH_RPN, Formerly, Inferred, Key, Section
from detectron_ext.config.rules import positives

RPN = Section(
    "The region proposal network (RPN) without a pyramid. With a pyramid see FPN.RPN_ASPECT_RATIOS "
    "and FPN.RPN_ANCHOR_START_SIZE.",
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
        "Pixels of the resized image between neighbouring positions of the RPN's feature map.",
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
    "If the IoU of two proposals is above this, the lower-scored one is suppressed.",
    used_by=WITH_RPN,
)
RPN_PRE_NMS_TOP_N = Key(
    12000,
    "At most this many proposals enter suppression, the best-scored ones; with a pyramid, on "
    "each level.",
    used_by=WITH_RPN,
)
RPN_POST_NMS_TOP_N = Key(
    2000,
    "At most this many proposals are kept after suppression; with a pyramid, on all levels "
    "together.",
    used_by=WITH_RPN,
)
RPN_MIN_SIZE = Key(
    0,
    "Only proposals whose sides are longer than this are kept; in pixels of the original image.",
    used_by=WITH_RPN,
)
