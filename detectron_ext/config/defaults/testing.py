"""Defaults of testing: input size, proposals, post-processing, evaluation, augmentation."""

from __future__ import annotations

from detectron_ext.config.defaults.testing_views import BBOX_AUG, KPS_AUG, MASK_AUG

TEST = {
    # Weights file to test; training fills it in when it tests its own result.
    "WEIGHTS": "",
    # Catalog names of the data sets, tested one after another.
    "DATASETS": (),
    # Length in pixels that the shorter image side is resized to.
    "SCALE": 600,
    # Upper limit in pixels for the longer side after resizing.
    "MAX_SIZE": 1000,
    # ---- Proposals ----
    # Files of precomputed proposals, one for each of DATASETS.
    "PROPOSAL_FILES": (),
    # At most this many precomputed proposals of an image are used.
    "PROPOSAL_LIMIT": 2000,
    # Whether proposals are read from files. Inferred: false with an RPN or with RetinaNet.
    "PRECOMPUTED_PROPOSALS": True,
    # Compute proposals with the GPU operator where there is one.
    "GENERATE_PROPOSALS_ON_GPU": False,
    # IoU above which of two proposals the lower-scored one is suppressed.
    "RPN_NMS_THRESH": 0.7,
    # Best-scored proposals that enter suppression; with a pyramid, at each level.
    "RPN_PRE_NMS_TOP_N": 12000,
    # Proposals kept after suppression; with a pyramid, over all levels.
    "RPN_POST_NMS_TOP_N": 2000,
    # Proposals need sides longer than this, in pixels of the original image.
    "RPN_MIN_SIZE": 0,
    # ---- Detections ----
    # Move boxes by the predicted regression; without it the proposals themselves are scored.
    "BBOX_REG": True,
    # IoU from which a lower-scored detection of the same class is suppressed.
    "NMS": 0.3,
    # Detections scored at or below this are dropped before suppression.
    "SCORE_THRESH": 0.05,
    # At most this many detections of an image are reported, the best-scored ones.
    "DETECTIONS_PER_IM": 100,
    # Suppression that lowers the scores of overlapping detections instead of dropping them.
    "SOFT_NMS": {
        # Use it.
        "ENABLED": False,
        # How scores fall with overlap: hard, linear or gaussian.
        "METHOD": "linear",
        # Width of the gaussian.
        "SIGMA": 0.5,
    },
    # Averaging of the boxes around each detection that survives suppression.
    "BBOX_VOTE": {
        # Use it.
        "ENABLED": False,
        # IoU with the survivor from which a box takes part.
        "VOTE_TH": 0.8,
        # New score: ID, TEMP_AVG, AVG, IOU_AVG, GENERALIZED_AVG or QUASI_SUM.
        "SCORING_METHOD": "ID",
        # Parameter of that method: a temperature or an exponent.
        "SCORING_METHOD_BETA": 1.0,
    },
    # ---- Evaluation ----
    # Keep the result files after a local evaluation.
    "COMPETITION_MODE": True,
    # Evaluate every data set as COCO does, whatever its own protocol.
    "FORCE_JSON_DATASET_EVAL": False,
    # Average the recall of proposals over classes, so that frequent classes weigh no more.
    "CLASS_SPECIFIC_AR": False,
    # ---- Test-time augmentation ----
    "BBOX_AUG": BBOX_AUG,
    "MASK_AUG": MASK_AUG,
    "KPS_AUG": KPS_AUG,
}
