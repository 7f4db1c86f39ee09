"""Keys of testing: input size, proposals, post-processing, evaluation, augmentation."""

from __future__ import annotations

from detectron_ext.config.keys import proposals
from detectron_ext.config.keys.key import (
    FAST_RCNN,
    UPSTREAM_ONLY,
    WITH_BOX_HEAD,
    WITH_DETECTIONS,
    Formerly,
    Inferred,
    Key,
    Section,
)
from detectron_ext.config.keys.testing_views import BBOX_AUG, KPS_AUG, MASK_AUG
from detectron_ext.config.keys.training import FILES_ADVICE, NAMES_ADVICE
from detectron_ext.config.rules import above, at_least, at_most, fraction, one_of, texts

TEST = Section(
    "How a model is tested.",
    WEIGHTS=Key(
        "",
        "Weights file to test. If a training run tests its own result, it sets this key itself.",
        is_path=True,
    ),
    DATASETS=Key(
        (),
        "Names of the data sets, tested one after another.",
        texts(),
        formerly=Formerly("TEST.DATASET", NAMES_ADVICE),
    ),
    SCALE=Key(
        600,
        "Length in pixels to which the shorter image side is resized.",
        at_least(1),
        at_most(32767),
        formerly=Formerly("TEST.SCALES", "give one integer such as 600, not a tuple"),
    ),
    MAX_SIZE=Key(
        1000,
        "Upper limit in pixels for the longer side after resizing.",
        at_least(1),
        at_most(32767),
    ),
    # ---- Proposals ----
    PROPOSAL_FILES=Key(
        (),
        "Files of precomputed proposals, one for each of DATASETS.",
        texts(),
        used_by=FAST_RCNN,
        formerly=Formerly("TEST.PROPOSAL_FILE", FILES_ADVICE),
        is_path=True,
    ),
    PROPOSAL_LIMIT=Key(
        2000,
        "Largest number of precomputed proposals of an image that are used; 0 or less uses all.",
        used_by=FAST_RCNN,
    ),
    PRECOMPUTED_PROPOSALS=Key(
        True,
        "Read proposals from files. This project ignores the key: the keys of MODEL decide this.",
        used_by=UPSTREAM_ONLY,
        inferred=Inferred(False, if_any=("RPN.RPN_ON", "RETINANET.RETINANET_ON")),
    ),
    GENERATE_PROPOSALS_ON_GPU=Key(
        False,
        "Compute proposals with the GPU operator where there is one.",
        used_by=UPSTREAM_ONLY,
    ),
    RPN_NMS_THRESH=proposals.RPN_NMS_THRESH,
    RPN_PRE_NMS_TOP_N=proposals.RPN_PRE_NMS_TOP_N,
    RPN_POST_NMS_TOP_N=proposals.RPN_POST_NMS_TOP_N,
    RPN_MIN_SIZE=proposals.RPN_MIN_SIZE,
    # ---- Detections ----
    BBOX_REG=Key(
        True,
        "Correct boxes by the predicted regression. False reports the boxes of the proposals or "
        "anchors themselves.",
        used_by=WITH_DETECTIONS,
    ),
    NMS=Key(
        0.3,
        "If the IoU of two detections of a class is at least this, the one with the lower score is "
        "removed (non-maximum suppression).",
        fraction(),
        used_by=WITH_DETECTIONS,
    ),
    SCORE_THRESH=Key(
        0.05,
        "Only detections with a score above this enter non-maximum suppression. RetinaNet uses "
        "RETINANET.INFERENCE_TH instead.",
        used_by=WITH_BOX_HEAD,
    ),
    DETECTIONS_PER_IM=Key(
        100,
        "Largest number of detections of an image that are reported, those with the highest "
        "scores. 0 or less reports all.",
        used_by=WITH_DETECTIONS,
    ),
    SOFT_NMS=Section(
        "Soft non-maximum suppression, which lowers the scores of overlapping detections instead "
        "of removing them.",
        used_by=WITH_DETECTIONS,
        ENABLED=Key(False, "Use soft non-maximum suppression."),
        METHOD=Key(
            "linear",
            "What the score of an overlapping detection is multiplied by: 1 - IoU (`linear`), "
            "exp(-IoU ** 2 / SIGMA) (`gaussian`) or 0 (`hard`).",
            one_of("hard", "linear", "gaussian"),
        ),
        SIGMA=Key(0.5, "The SIGMA of the METHOD `gaussian`.", above(0)),
    ),
    BBOX_VOTE=Section(
        "Box voting: the box of each detection that non-maximum suppression keeps is replaced by "
        "the mean of the boxes that overlap it.",
        used_by=WITH_DETECTIONS,
        ENABLED=Key(False, "Use box voting."),
        VOTE_TH=Key(
            0.8, "A box takes part if its IoU with the kept box is at least this.", fraction()
        ),
        SCORING_METHOD=Key(
            "ID",
            "How the new score is computed from the scores s of the n boxes that take part: the "
            "old score (`ID`); the mean of s, plain (`AVG`) or weighted by IoU (`IOU_AVG`); the "
            "mean of s after a softmax with temperature BETA (`TEMP_AVG`); the power mean of s "
            "with exponent BETA (`GENERALIZED_AVG`); the sum of s divided by n ** BETA "
            "(`QUASI_SUM`).",
            one_of("ID", "TEMP_AVG", "AVG", "IOU_AVG", "GENERALIZED_AVG", "QUASI_SUM"),
        ),
        SCORING_METHOD_BETA=Key(
            1.0,
            "The BETA of SCORING_METHOD. It must not be 0 for `TEMP_AVG` and `GENERALIZED_AVG`.",
        ),
    ),
    # ---- Evaluation ----
    COMPETITION_MODE=Key(
        True, "Keep the result files after a local evaluation.", used_by=UPSTREAM_ONLY
    ),
    FORCE_JSON_DATASET_EVAL=Key(
        False,
        "Evaluate every data set as COCO does, even if it has its own protocol.",
        used_by=UPSTREAM_ONLY,
    ),
    CLASS_SPECIFIC_AR=Key(
        False,
        "Average the recall of proposals over classes, so that all classes have the same weight.",
        used_by=UPSTREAM_ONLY,
    ),
    # ---- Test-time augmentation ----
    BBOX_AUG=BBOX_AUG,
    MASK_AUG=MASK_AUG,
    KPS_AUG=KPS_AUG,
)
