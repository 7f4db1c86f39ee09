"""Defaults of everything Detectron does not have; left alone, a run is plain Detectron.

Section numbers are those of Pang et al., "Libra R-CNN: Towards Balanced Learning for Object
Detection" (2019).
"""

from __future__ import annotations

LIBRA: dict = {
    # Balanced feature pyramid (section 3.2): average the levels, refine, add back.
    "BFP": {
        "ON": False,
        # Number k of the level P_k at which the levels are averaged.
        "REFINE_LEVEL": 4,
        # Refinement of the average: none, conv (3x3) or non_local (attention).
        "REFINE_TYPE": "non_local",
    },
    # How the pyramid's levels above P5 are made where FPN.EXTRA_CONV_LEVELS says by convolutions.
    "FPN": {
        # What P6 is made from: input (res5, as Detectron) or output (P5).
        "EXTRA_LEVELS_ON": "input",
        # Rectify P6 and coarser before the next one is made from it, as Detectron.
        "EXTRA_LEVELS_RELU": True,
    },
    # Modules to import before the configuration is checked, so that it can name the parts that they
    # register: module names, or .py files relative to the file that holds this key. A configuration
    # that is stored in weights or results never causes an import.
    "IMPORTS": [],
    # Where boxes lie: detectron (anchors around the middle of a cell, whole-pixel aspect ratios,
    # RoIAlign as published) or mmdet (anchors around a cell's corner, exact sides, regions aligned
    # to half pixels), which weights from mmdetection need.
    "BOX_CONVENTION": "detectron",
    # Box regression loss of RetinaNet or of the Fast R-CNN head: a name that is registered in
    # modeling.box_losses.BOX_LOSSES. "" means balanced_l1 if BALANCED_L1.ON, else smooth_l1.
    "BOX_LOSS": "",
    # Balanced L1 loss (section 3.3) for box regression. The difference where it turns linear
    # is RETINANET.BBOX_REG_BETA, or 1.0 in the Fast R-CNN head.
    "BALANCED_L1": {
        "ON": False,
        # Smaller values give accurate boxes more gradient.
        "ALPHA": 0.5,
        # Upper limit of the gradient, at most 60 times ALPHA.
        "GAMMA": 1.5,
        # continuous (the paper's for every beta) or mmdet (equal at beta 1).
        "FORMULA": "continuous",
    },
    # Which regions train the Fast R-CNN head (section 3.1).
    "SAMPLER": {
        # Negatives: random or iou_balanced.
        "NEGATIVE": "random",
        # Positives: random or instance_balanced.
        "POSITIVE": "random",
        # IoU bins of the balanced negatives.
        "NUM_BINS": 3,
        # IoU at which the bins begin.
        "FLOOR_THRESH": 0.0,
        # Share of the negatives drawn from below FLOOR_THRESH, which has to be above 0 for that;
        # BIN_RANGE mmdet counts those of IoU 0 as below 0.
        "FLOOR_FRACTION": 0.0,
        # The bins end at the negatives' threshold (negatives) or at the largest IoU (mmdet).
        "BIN_RANGE": "negatives",
        # Draw the RPN's anchors in the same way; else, as published, they are drawn at random.
        "RPN": False,
        # At most this many RPN negatives for each positive; negative means no limit.
        "RPN_NEG_POS_UB": -1.0,
    },
    # RetinaNet trains on all anchors; this changes how its negatives count.
    "RETINANET_SAMPLER": {
        # none, select (ignore those beyond a balanced budget) or reweight (even out the bins).
        "MODE": "none",
        # IoU bins of the negatives.
        "NUM_BINS": 3,
        # Budget of select: negatives for each positive, but at least MIN_NEG an image.
        "NEG_PER_POS": 3.0,
        "MIN_NEG": 256,
    },
    # Factors on the classification and the box regression loss, of RetinaNet or of the Fast R-CNN
    # head; the RPN's losses have none.
    "LOSS_WEIGHTS": {"CLS": 1.0, "BBOX": 1.0},
    "RETINANET_HEAD": {
        # GroupNorm in the head's towers.
        "USE_GN": False,
    },
    # Changes of the training images, besides TRAIN.USE_FLIPPED and TRAIN.SCALES.
    "AUGMENTATION": {
        # Flip upside down, half of the time.
        "FLIP_VERTICAL": False,
        # Turn by a random multiple of 90 degrees.
        "ROTATE90": False,
        # Bounds of a random factor on the image's scale.
        "SCALE_RANGE": (1.0, 1.0),
        # Crop images that SCALE_RANGE enlarged back to their usual size, at a random place.
        "CROP": False,
        # Strength of random brightness, contrast and saturation, 0 (off) to 1.
        "COLOR_JITTER": 0.0,
    },
    "DATA": {
        # Pass over images that cannot be read, naming them once, rather than stop.
        "SKIP_BAD_IMAGES": False,
    },
    # Use the fast convolution of the native library on the CPU, else Caffe2's own.
    "FAST_CONV": True,
    # Iterations between two lines of training statistics; every checkpoint has a line, too.
    "LOG_PERIOD": 20,
    # CPU threads; 0 uses all cores.
    "THREADS": 0,
}
