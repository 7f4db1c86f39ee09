"""Keys of test-time augmentation, for boxes, masks and keypoints alike."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, WITH_DETECTIONS, Key, Section
from detectron_ext.config.rules import one_of, positives

_ENABLED = "Combine the predictions of several transformed copies of each image."
_AREA_TH = "Area in square pixels. Objects of a smaller area are small, the others are large."

_VIEWS = {
    "ENABLED": Key(False, _ENABLED),
    "H_FLIP": Key(False, "Add a mirrored copy of the image."),
    "SCALES": Key(
        (),
        "Add one copy for each of these lengths, in pixels, of the shorter side.",
        positives(),
    ),
    "MAX_SIZE": Key(4000, "Upper limit in pixels for the longer side of a copy."),
    "SCALE_H_FLIP": Key(False, "Add a mirrored copy of each copy of SCALES."),
    "SCALE_SIZE_DEP": Key(
        False,
        "Use enlarged copies for small objects only and reduced ones for large objects only.",
    ),
    "ASPECT_RATIOS": Key(
        (), "Add one copy for each of these factors on the image's width.", positives()
    ),
    "ASPECT_RATIO_H_FLIP": Key(False, "Add a mirrored copy of each copy of ASPECT_RATIOS."),
}

BBOX_AUG = Section(
    "Test-time augmentation of boxes.",
    _VIEWS,
    used_by=UPSTREAM_ONLY,
    ENABLED=Key(
        False,
        f"{_ENABLED} Only upstream Detectron does this. In this project a warning says that each "
        "image is tested once.",
        used_by=WITH_DETECTIONS,
    ),
    SCORE_HEUR=Key(
        "UNION",
        "How the scores of the copies are combined: those of the first copy (`ID`), their mean "
        "(`AVG`), or the boxes of all copies together (`UNION`).",
        one_of("ID", "AVG", "UNION"),
    ),
    COORD_HEUR=Key(
        "UNION",
        "How the coordinates of the copies are combined. The choices are those of SCORE_HEUR.",
        one_of("ID", "AVG", "UNION"),
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
        "How the masks of the copies are combined: mean (`SOFT_AVG`) or maximum (`SOFT_MAX`) of "
        "the probabilities, or mean of the logits (`LOGIT_AVG`).",
        one_of("SOFT_AVG", "SOFT_MAX", "LOGIT_AVG"),
    ),
    AREA_TH=Key(180**2, _AREA_TH),
)

KPS_AUG = Section(
    "Test-time augmentation of keypoints.",
    _VIEWS,
    used_by=UPSTREAM_ONLY,
    HEUR=Key(
        "HM_AVG",
        "How the heat maps of the copies are combined: mean (`HM_AVG`) or maximum (`HM_MAX`).",
        one_of("HM_AVG", "HM_MAX"),
    ),
    AREA_TH=Key(180**2, _AREA_TH),
)
