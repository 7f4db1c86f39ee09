"""Keys of RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", 2017)."""

from __future__ import annotations

from detectron_ext.config.keys import key
from detectron_ext.config.keys.key import UPSTREAM_ONLY, Key, Section
from detectron_ext.config.rules import (
    above,
    at_least,
    at_most,
    between,
    fraction,
    inside_zero_and_one,
    not_above,
    positives,
)

RETINANET = Section(
    'RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", 2017).',
    affects_weights=True,
    used_by=key.RETINANET,
    RETINANET_ON=Key(
        False,
        "Configurations for upstream set this to True for RetinaNet. This project reads only "
        "MODEL.TYPE.",
        used_by=UPSTREAM_ONLY,
        affects_weights=False,
    ),
    # ---- Anchors ----
    ASPECT_RATIOS=Key(
        (0.5, 1.0, 2.0),
        "Height-to-width ratios of the anchors at each position.",
        positives(1),
    ),
    SCALES_PER_OCTAVE=Key(
        3,
        "Number of anchor sizes on each pyramid level. Each size is 2 ** (1 / SCALES_PER_OCTAVE) "
        "times the one before.",
        at_least(1),
        at_most(64),
    ),
    ANCHOR_SCALE=Key(
        4,
        "Side of a level's smallest square anchor, in units of the level's stride.",
        above(0),
    ),
    # ---- Head ----
    NUM_CONVS=Key(
        4,
        "Number of convolutions in each tower, without the last convolution, which makes the "
        "predictions.",
        at_least(0),
        at_most(64),
    ),
    SHARE_CLS_BBOX_TOWER=Key(
        False, "Use one tower of convolutions for both classification and box regression."
    ),
    CLASS_SPECIFIC_BBOX=Key(
        False, "Predict one box for each class, instead of one box for all classes."
    ),
    SOFTMAX=Key(
        False,
        "Classify with a softmax over all classes, instead of a sigmoid for each class.",
    ),
    PRIOR_PROB=Key(
        0.01,
        "Probability of foreground that the initial bias of the classifier gives to every anchor.",
        inside_zero_and_one(),
    ),
    # ---- Training targets and losses ----
    POSITIVE_OVERLAP=Key(
        0.5,
        "An anchor is positive if its IoU with a ground-truth box is at least this.",
        fraction(),
    ),
    NEGATIVE_OVERLAP=Key(
        0.4,
        "An anchor is negative if its best IoU is below this. An anchor between the two thresholds "
        "is ignored.",
        fraction(),
        not_above("RETINANET.POSITIVE_OVERLAP"),
    ),
    LOSS_ALPHA=Key(
        0.25,
        "Focal loss: weight of the positives. Negatives have the weight 1 - LOSS_ALPHA.",
        fraction(),
    ),
    LOSS_GAMMA=Key(
        2.0,
        "Focal loss: exponent that reduces the loss of well-classified anchors.",
        between(0, 1e6),
    ),
    BBOX_REG_WEIGHT=Key(1.0, "Factor on the box regression loss.", between(0, 1e6)),
    BBOX_REG_BETA=Key(
        0.11,
        "The box loss is linear for differences above this number.",
        between(1e-6, 1e6),
    ),
    # ---- Inference ----
    PRE_NMS_TOP_N=Key(
        1000,
        "Largest number of anchors of each level that are decoded, those with the highest scores.",
        at_least(1),
        affects_weights=False,
    ),
    INFERENCE_TH=Key(
        0.05,
        "Only anchors with a score above this are decoded. The coarsest level has no threshold.",
        affects_weights=False,
    ),
)
