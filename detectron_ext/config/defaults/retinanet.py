"""Defaults of RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", 2017)."""

from __future__ import annotations

RETINANET = {
    # Upstream's note that MODEL.TYPE is retinanet, which alone decides what is built.
    "RETINANET_ON": False,
    # ---- Anchors ----
    # Height-to-width ratios of the anchors at each position.
    "ASPECT_RATIOS": (0.5, 1.0, 2.0),
    # Anchor sizes between one pyramid level and the next, spaced evenly in the logarithm.
    "SCALES_PER_OCTAVE": 3,
    # Side of a level's smallest square anchor, in units of the level's stride.
    "ANCHOR_SCALE": 4,
    # ---- Head ----
    # Convolutions in each tower, the final predicting one not counted.
    "NUM_CONVS": 4,
    # Let classification and regression use one tower.
    "SHARE_CLS_BBOX_TOWER": False,
    # Regress one box for each class rather than one for all.
    "CLASS_SPECIFIC_BBOX": False,
    # Train classification with a softmax over classes rather than a sigmoid for each.
    "SOFTMAX": False,
    # Foreground probability that the classifier's initial bias gives every anchor.
    "PRIOR_PROB": 0.01,
    # ---- Training targets and losses ----
    # An anchor is positive from this IoU with a ground-truth box upward.
    "POSITIVE_OVERLAP": 0.5,
    # An anchor is negative when its best IoU is below this; between the two it is ignored.
    "NEGATIVE_OVERLAP": 0.4,
    # Focal loss: weight of the positives (negatives get one minus it).
    "LOSS_ALPHA": 0.25,
    # Focal loss: exponent that fades out well-classified anchors.
    "LOSS_GAMMA": 2.0,
    # Factor on the box regression loss.
    "BBOX_REG_WEIGHT": 1.0,
    # Difference at which the box loss turns from curved to linear.
    "BBOX_REG_BETA": 0.11,
    # ---- Inference ----
    # Best-scored anchors of each level that are decoded.
    "PRE_NMS_TOP_N": 1000,
    # Only anchors scored above this are decoded (except at the coarsest level).
    "INFERENCE_TH": 0.05,
}
