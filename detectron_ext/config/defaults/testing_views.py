"""Defaults of test-time augmentation, for boxes, masks and keypoints alike."""

from __future__ import annotations

_VIEWS = {
    # Combine the predictions of several transformed copies of each image.
    "ENABLED": False,
    # Add the mirrored image.
    "H_FLIP": False,
    # Add one copy for each of these lengths in pixels of the shorter side.
    "SCALES": (),
    # Upper limit in pixels for the longer side of a copy.
    "MAX_SIZE": 4000,
    # Mirror the scaled copies too.
    "SCALE_H_FLIP": False,
    # Use enlarged copies for small objects only and reduced ones for large objects only.
    "SCALE_SIZE_DEP": False,
    # Add one copy for each of these factors on the image's width.
    "ASPECT_RATIOS": (),
    # Mirror those copies too.
    "ASPECT_RATIO_H_FLIP": False,
}

BBOX_AUG = dict(
    _VIEWS,
    # How scores combine: ID (first view only), AVG or UNION (pool all views' boxes).
    SCORE_HEUR="UNION",
    # How coordinates combine: ID, AVG or UNION.
    COORD_HEUR="UNION",
    # Areas in square pixels: smaller than the first is small, larger than the second is large.
    AREA_TH_LO=50**2,
    AREA_TH_HI=180**2,
)

MASK_AUG = dict(
    _VIEWS,
    # How masks combine: SOFT_AVG or SOFT_MAX of probabilities, or LOGIT_AVG.
    HEUR="SOFT_AVG",
    # Area in square pixels that divides small from large objects.
    AREA_TH=180**2,
)

KPS_AUG = dict(
    _VIEWS,
    # How keypoint heat maps combine: HM_AVG or HM_MAX.
    HEUR="HM_AVG",
    # Area in square pixels that divides small from large objects.
    AREA_TH=180**2,
)
