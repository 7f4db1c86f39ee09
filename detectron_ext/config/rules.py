"""What values a key may take, as tables: choices, ranges and the elements of sequences."""

from __future__ import annotations

import math

CHOICES = {
    "KRCNN.KEYPOINT_CONFIDENCE": ("bbox", "logit", "prob"),
    "LIBRA.BALANCED_L1.FORMULA": ("continuous", "mmdet"),
    "LIBRA.BOX_CONVENTION": ("detectron", "mmdet"),
    "LIBRA.FPN.EXTRA_LEVELS_ON": ("input", "output"),
    "LIBRA.SAMPLER.BIN_RANGE": ("negatives", "mmdet"),
    "SOLVER.LR_POLICY": (
        "step",
        "steps_with_decay",
        "steps_with_lrs",
        "cosine_decay",
        "exp_decay",
    ),
    "SOLVER.WARM_UP_METHOD": ("constant", "linear"),
    "TEST.BBOX_AUG.COORD_HEUR": ("ID", "AVG", "UNION"),
    "TEST.BBOX_AUG.SCORE_HEUR": ("ID", "AVG", "UNION"),
    "TEST.BBOX_VOTE.SCORING_METHOD": (
        "ID",
        "TEMP_AVG",
        "AVG",
        "IOU_AVG",
        "GENERALIZED_AVG",
        "QUASI_SUM",
    ),
    "TEST.KPS_AUG.HEUR": ("HM_AVG", "HM_MAX"),
    "TEST.MASK_AUG.HEUR": ("SOFT_AVG", "SOFT_MAX", "LOGIT_AVG"),
    "TEST.SOFT_NMS.METHOD": ("hard", "linear", "gaussian"),
    "TRAIN.FREEZE_AT": (0, 2, 3, 4, 5),
}

# Keys whose choices are the names in a registry -> "module:NAME" of that registry. The module is
# imported only to check a value that is not the default: reading a configuration needs no Caffe2.
REGISTRIES = {
    "LIBRA.BFP.REFINE_TYPE": "detectron_ext.modeling.balanced_pyramid:REFINEMENTS",
    "LIBRA.BOX_LOSS": "detectron_ext.modeling.box_losses:BOX_LOSSES",
    "LIBRA.RETINANET_SAMPLER.MODE": "detectron_ext.sampling.retinanet_sampler:MODES",
    "LIBRA.SAMPLER.NEGATIVE": "detectron_ext.sampling.box_sampler:NEGATIVES",
    "LIBRA.SAMPLER.POSITIVE": "detectron_ext.sampling.box_sampler:POSITIVES",
}

# The same of the formats of data sets in DATASETS_EXTRA.
FORMATS = "detectron_ext.data.formats:FORMATS"

POSITIVE = (
    "FPN.COARSEST_STRIDE",
    "FPN.DIM",
    "GROUP_NORM.EPSILON",
    "LIBRA.BALANCED_L1.ALPHA",
    "LIBRA.BALANCED_L1.GAMMA",
    "RETINANET.ANCHOR_SCALE",
    "RETINANET.BBOX_REG_BETA",
    "SOLVER.GAMMA",
    "TEST.SOFT_NMS.SIGMA",
)

# Least and most of numbers that operators take in single precision: factors of one loss must not
# overflow together, nor the coefficients of balanced L1.
SINGLE_PRECISION = {
    "GROUP_NORM.EPSILON": (1e-30, 1e6),
    "LIBRA.BALANCED_L1.ALPHA": (1e-3, 1e3),
    "LIBRA.BALANCED_L1.GAMMA": (1e-3, 1e3),
    "LIBRA.LOSS_WEIGHTS.BBOX": (0, 1e6),
    "LIBRA.LOSS_WEIGHTS.CLS": (0, 1e6),
    "RETINANET.BBOX_REG_BETA": (1e-6, 1e6),
    "RETINANET.BBOX_REG_WEIGHT": (0, 1e6),
    "RETINANET.LOSS_GAMMA": (0, 1e6),
}

# Most that LIBRA.BALANCED_L1.GAMMA / ALPHA may be: its exponential has to fit single precision.
# ops/kernels/formulas.h has the same limit.
MAX_BALANCED_L1_EXPONENT = 60

# Not here: thresholds that upstream switches off by a value outside (RPN_NMS_THRESH, for one).
FRACTIONS = (
    "LIBRA.AUGMENTATION.COLOR_JITTER",
    "LIBRA.SAMPLER.FLOOR_FRACTION",
    "LIBRA.SAMPLER.FLOOR_THRESH",
    "RETINANET.LOSS_ALPHA",
    "RETINANET.NEGATIVE_OVERLAP",
    "RETINANET.POSITIVE_OVERLAP",
    "SOLVER.WARM_UP_FACTOR",
    "TEST.BBOX_VOTE.VOTE_TH",
    "TEST.NMS",
    "TRAIN.BBOX_THRESH",
    "TRAIN.BG_THRESH_HI",
    "TRAIN.BG_THRESH_LO",
    "TRAIN.FG_FRACTION",
    "TRAIN.FG_THRESH",
    "TRAIN.RPN_FG_FRACTION",
    "TRAIN.RPN_NEGATIVE_OVERLAP",
    "TRAIN.RPN_POSITIVE_OVERLAP",
)

# Fractions that must not reach 1.
PROPER_FRACTIONS = ("SOLVER.MOMENTUM",)

AT_LEAST = {
    "DATA_LOADER.MINIBATCH_QUEUE_SIZE": 1,
    "DATA_LOADER.NUM_THREADS": 1,
    "FAST_RCNN.CONV_HEAD_DIM": 1,
    "FAST_RCNN.MLP_HEAD_DIM": 1,
    "FAST_RCNN.NUM_STACKED_CONVS": 0,
    "FAST_RCNN.ROI_XFORM_RESOLUTION": 1,
    "FPN.ROI_CANONICAL_SCALE": 1,
    "FPN.RPN_ANCHOR_START_SIZE": 1,
    "LIBRA.LOG_PERIOD": 1,
    "LIBRA.LOSS_WEIGHTS.BBOX": 0,
    "LIBRA.LOSS_WEIGHTS.CLS": 0,
    "LIBRA.RETINANET_SAMPLER.MIN_NEG": 0,
    "LIBRA.RETINANET_SAMPLER.NEG_PER_POS": 0,
    "LIBRA.RETINANET_SAMPLER.NUM_BINS": 1,
    "LIBRA.SAMPLER.NUM_BINS": 1,
    "LIBRA.THREADS": 0,
    "NUM_GPUS": 0,
    "RESNETS.NUM_GROUPS": 1,
    "RESNETS.RES5_DILATION": 1,
    "RESNETS.WIDTH_PER_GROUP": 1,
    "RETINANET.LOSS_GAMMA": 0,
    "RETINANET.NUM_CONVS": 0,
    "RETINANET.PRE_NMS_TOP_N": 1,
    "RETINANET.SCALES_PER_OCTAVE": 1,
    "RNG_SEED": 0,
    "SOLVER.BASE_LR": 0,
    "SOLVER.MAX_ITER": 0,
    "SOLVER.STEP_SIZE": 1,
    "SOLVER.WARM_UP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "SOLVER.WEIGHT_DECAY_GN": 0,
    "TEST.MAX_SIZE": 1,
    "TEST.SCALE": 1,
    "TRAIN.BATCH_SIZE_PER_IM": 1,
    "TRAIN.IMS_PER_BATCH": 1,
    "TRAIN.MAX_SIZE": 1,
    "TRAIN.RPN_BATCH_SIZE_PER_IM": 1,
    "TRAIN.SNAPSHOT_ITERS": 1,
}

# Factors of a count, whose product has to be a number that can be counted to.
AT_MOST = {
    "LIBRA.RETINANET_SAMPLER.NEG_PER_POS": 1e6,
    "LIBRA.SAMPLER.RPN_NEG_POS_UB": 1e6,
}

TEXTS = (
    "LIBRA.IMPORTS",
    "TEST.DATASETS",
    "TEST.PROPOSAL_FILES",
    "TRAIN.DATASETS",
    "TRAIN.PROPOSAL_FILES",
)

# Sequences of positive numbers -> how many there may be.
POSITIVE_SEQUENCES = {
    "FPN.RPN_ASPECT_RATIOS": (1, math.inf),
    "LIBRA.AUGMENTATION.SCALE_RANGE": (2, 2),
    "MODEL.BBOX_REG_WEIGHTS": (4, 4),
    "RETINANET.ASPECT_RATIOS": (1, math.inf),
    "RPN.ASPECT_RATIOS": (1, math.inf),
    "RPN.SIZES": (1, math.inf),
    "SOLVER.LRS": (0, math.inf),
    "TEST.BBOX_AUG.ASPECT_RATIOS": (0, math.inf),
    "TEST.BBOX_AUG.SCALES": (0, math.inf),
    "TEST.KPS_AUG.ASPECT_RATIOS": (0, math.inf),
    "TEST.KPS_AUG.SCALES": (0, math.inf),
    "TEST.MASK_AUG.ASPECT_RATIOS": (0, math.inf),
    "TEST.MASK_AUG.SCALES": (0, math.inf),
    "TRAIN.SCALES": (1, math.inf),
}

# Pairs of keys of which the first must not exceed the second.
ORDERED = (
    ("FPN.ROI_MIN_LEVEL", "FPN.ROI_MAX_LEVEL"),
    ("FPN.RPN_MIN_LEVEL", "FPN.RPN_MAX_LEVEL"),
    ("RETINANET.NEGATIVE_OVERLAP", "RETINANET.POSITIVE_OVERLAP"),
    ("TRAIN.BG_THRESH_LO", "TRAIN.BG_THRESH_HI"),
    ("TRAIN.RPN_NEGATIVE_OVERLAP", "TRAIN.RPN_POSITIVE_OVERLAP"),
)
