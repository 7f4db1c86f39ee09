"""Keys of test-time augmentation, for boxes, masks and keypoints alike."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, WITH_DETECTIONS, Key, Section
from detectron_ext.config.rules import one_of, positives

_ENABLED = "Combine the predictions of several transformed copies of each image."
_AREA_TH = "Area in square pixels that divides small from large objects."

_VIEWS = {
    "ENABLED": Key(False, _ENABLED),
    "H_FLIP": Key(False, "Add the mirrored image."),
    "SCALES": Key(
        (),
        "Add one copy for each of these lengths in pixels of the shorter side.",
        positives(),
    ),
    "MAX_SIZE": Key(4000, "Upper limit in pixels for the longer side of a copy."),
    "SCALE_H_FLIP": Key(False, "Mirror the scaled copies, too."),
    "SCALE_SIZE_DEP": Key(
        False,
        "Use enlarged copies for small objects only and reduced ones for large objects only.",
    ),
    "ASPECT_RATIOS": Key(
        (), "Add one copy for each of these factors on the image's width.", positives()
    ),
    "ASPECT_RATIO_H_FLIP": Key(False, "Mirror those copies, too."),
}

BBOX_AUG = Section(
    "Test-time augmentation of boxes.",
    _VIEWS,
    used_by=UPSTREAM_ONLY,
    ENABLED=Key(
        False,
        f"{_ENABLED} Upstream Detectron does; here a warning says that each image is tested once.",
        used_by=WITH_DETECTIONS,
    ),
    SCORE_HEUR=Key(
        "UNION",
        "How scores combine: `ID` (first view only), `AVG` or `UNION` (pool all views' boxes).",
        one_of("ID", "AVG", "UNION"),
    ),
    COORD_HEUR=Key(
        "UNION", "How coordinates combine, as SCORE_HEUR.", one_of("ID", "AVG", "UNION")
    ),
    AREA_TH_LO=Key(50**2, "Objects of a smaller area in square pixels are small."),
    AREA_TH_HI=Key(180**2, "Objects of a larger area in square pixels are large."),
)

MASK_AUG = Section(
    "Test-time augmentation of masks.",
    _VIEWS,
    used_by=UPSTREAM_ONLY,
    HEUR=Key(
        "SOFT_AVG",
        "How masks combine: `SOFT_AVG` or `SOFT_MAX` of probabilities, or `LOGIT_AVG`.",
        one_of("SOFT_AVG", "SOFT_MAX", "LOGIT_AVG"),
    ),
    AREA_TH=Key(180**2, _AREA_TH),
)

KPS_AUG = Section(
    "Test-time augmentation of keypoints.",
    _VIEWS,
    used_by=UPSTREAM_ONLY,
    HEUR=Key("HM_AVG", "How keypoint heat maps combine.", one_of("HM_AVG", "HM_MAX")),
    AREA_TH=Key(180**2, _AREA_TH),
)
