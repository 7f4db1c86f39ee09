"""Keys that Detectron does not have.

If all of them have their defaults, a run is plain Detectron.

Section numbers are those of Pang et al., "Libra R-CNN: Towards Balanced Learning for Object
Detection" (2019).
"""

from __future__ import annotations

from detectron_ext.config.keys import key
from detectron_ext.config.keys.key import (
    WITH_ANCHORS,
    WITH_BOX_HEAD,
    WITH_DETECTIONS,
    WITH_RPN,
    Key,
    NotUpstream,
    Section,
    When,
)
from detectron_ext.config.model_kind import ModelKind
from detectron_ext.config.rules import (
    ascending_pair,
    at_least,
    at_most,
    between,
    fraction,
    one_of,
    positives,
    registered_in,
    texts,
)

_UPSTREAMS_MODEL = NotUpstream("that part of the model is upstream's own")

LIBRA = Section(
    "What this project adds to Detectron. If all of these keys have their defaults, a run is plain "
    "Detectron. If a key was changed and the model does not use it, such as LIBRA.SAMPLER.NEGATIVE "
    "with RetinaNet, training logs a warning.",
    affects_weights=True,
    BFP=Section(
        "The balanced feature pyramid (section 3.2 of the paper). The levels are averaged, the "
        "average is refined, and the result is added to each level.",
        ON=Key(False, "Put the balanced feature pyramid between the FPN and the heads."),
        REFINE_LEVEL=Key(
            4, "Number k of the level P_k. The levels are averaged at the size of this level."
        ),
        REFINE_TYPE=Key(
            "non_local",
            "How the average is refined: `none`, `conv` (a 3x3 convolution) or `non_local` "
            "(attention).",
            registered_in("detectron_ext.modeling.balanced_pyramid:REFINEMENTS"),
        ),
        INIT=Key(
            "identity",
            "How the refinement `non_local` starts; the others do not use it. `identity`: its "
            "output convolution is 0, so that it changes nothing at first. `xavier`: all four "
            "convolutions are drawn by Xavier's rule, as in the authors' code; then about half of "
            "what the refinement returns is not its input.",
            one_of("identity", "xavier"),
        ),
    ),
    FPN=Section(
        "How the pyramid's levels above P5 are made if FPN.EXTRA_CONV_LEVELS is True.",
        upstream=_UPSTREAMS_MODEL,
        EXTRA_LEVELS_ON=Key(
            "input",
            "What P6 is made from: `input` (res5, as in Detectron) or `output` (P5).",
            one_of("input", "output"),
        ),
        EXTRA_LEVELS_RELU=Key(
            True,
            "Apply a ReLU to P6 and to coarser levels before the next level is made from them, as "
            "Detectron does.",
        ),
    ),
    IMPORTS=Key(
        [],
        "Modules to import before the configuration is checked: module names, or .py files "
        "relative to the file with this key. Other keys can then name the parts that the modules "
        "register. The lists of a file and of the files in its chain of `_BASE_` are joined. A "
        "configuration that is stored in weights or results never causes an import.",
        texts(),
        affects_weights=False,  # the keys that name parts are compared
    ),
    BOX_CONVENTION=Key(
        "detectron",
        "How anchors and boxes lie on the grid of pixels. `detectron`: anchors are centred on the "
        "middle of a grid cell, and their sides are rounded to whole pixels; RoIAlign is the "
        "published one. `mmdet`: anchors are centred on a corner of the cell, and their sides are "
        "not rounded; RoIAlign and clipping are those of mmdetection 2.x and 3.x. Weights from "
        "mmdetection need `mmdet`.",
        one_of("detectron", "mmdet"),
        upstream=_UPSTREAMS_MODEL,
    ),
    BOX_LOSS=Key(
        "",
        "The box regression loss of RetinaNet or of the Fast R-CNN head. Empty means `balanced_l1` "
        "if LIBRA.BALANCED_L1.ON is True, else `smooth_l1`.",
        registered_in("detectron_ext.modeling.box_losses:BOX_LOSSES"),
        used_by=WITH_DETECTIONS,
    ),
    CLASS_LOSS=Key(
        "focal",
        "The class loss of RetinaNet. `focal`: the focal loss. `quality_focal` (Li et al., "
        "Generalized Focal Loss, 2020): the target of a positive is the IoU of its predicted box "
        "with the object instead of 1, so that scores rank boxes by their quality. "
        "RETINANET.LOSS_GAMMA is its exponent; it uses neither RETINANET.LOSS_ALPHA nor weights of "
        "anchors. LIBRA.RETINANET_WEIGHTS.POSITIVE `uniform` adds the IoUs to the training log.",
        registered_in("detectron_ext.modeling.class_losses:CLASS_LOSSES"),
        used_by=key.RETINANET,
    ),
    BALANCED_L1=Section(
        "The balanced L1 loss of the box regression (section 3.3 of the paper). Above a "
        "difference of beta it is linear. Beta is RETINANET.BBOX_REG_BETA (0.11) for RetinaNet "
        "and 1 for the Fast R-CNN head.",
        used_by=WITH_DETECTIONS,
        ON=Key(False, "Use the balanced L1 loss instead of the smooth L1 loss."),
        ALPHA=Key(
            0.5,
            "Small errors get a larger gradient if ALPHA is smaller.",
            between(1e-3, 1e3),
        ),
        GAMMA=Key(1.5, "Upper limit of the gradient, at most 60 times ALPHA.", between(1e-3, 1e3)),
        FORMULA=Key(
            "continuous",
            "`continuous`: the paper's formula at beta 1; its value and gradient are continuous "
            "for every beta. `mmdet`: mmdetection's formula, to reproduce its settings. It equals "
            "the other one at beta 1. At beta 0.11 its gradient jumps to 4.05 at a difference of "
            "zero.",
            one_of("continuous", "mmdet"),
        ),
    ),
    SAMPLER=Section(
        "Which regions train the Fast R-CNN head (section 3.1 of the paper). IoU-balanced "
        "negatives are drawn in equal numbers from NUM_BINS bins of equal width over the IoU. If "
        "a bin has too few, the rest is drawn from all remaining negatives. The bins begin at "
        "FLOOR_THRESH. The training log reports the share of each bin.",
        used_by=(*WITH_BOX_HEAD, When(ModelKind.RPN_ALONE, "LIBRA.SAMPLER.RPN")),
        NEGATIVE=Key(
            "random",
            "How negatives are drawn: `random`, or `iou_balanced` (the same number from each IoU "
            "bin).",
            registered_in("detectron_ext.sampling.box_sampler:NEGATIVES"),
        ),
        POSITIVE=Key(
            "random",
            "How positives are drawn: `random`, or `instance_balanced` (the same number for each "
            "object).",
            registered_in("detectron_ext.sampling.box_sampler:POSITIVES"),
        ),
        NUM_BINS=Key(
            3, "Number of IoU bins of the balanced negatives.", at_least(1), at_most(1000)
        ),
        FLOOR_THRESH=Key(0.0, "IoU at which the bins begin.", fraction()),
        FLOOR_FRACTION=Key(
            0.0,
            "Share of the negatives that is drawn from below FLOOR_THRESH. With BIN_RANGE "
            "`negatives` it needs a FLOOR_THRESH above 0. With `mmdet` and a FLOOR_THRESH of 0, "
            "it is drawn from the negatives with an IoU of exactly 0.",
            fraction(),
        ),
        BIN_RANGE=Key(
            "negatives",
            "Where the bins end: at the negatives' IoU threshold (`negatives`), or at the largest "
            "IoU of any box, as in mmdetection (`mmdet`). With `mmdet`, bins above the negatives' "
            "IoU threshold are empty.",
            one_of("negatives", "mmdet"),
        ),
        RPN=Key(
            False,
            "Use these samplers for the RPN's anchors, too. False draws the anchors at random, as "
            "published.",
            used_by=WITH_RPN,
        ),
        RPN_NEG_POS_UB=Key(
            -1.0,
            "Largest number of the RPN's negatives for each positive. A negative value means no "
            "limit.",
            at_most(1e6),
            used_by=WITH_RPN,
        ),
        RPN_NORMALISER=Key(
            "auto",
            "What the RPN's losses are divided by. `budget`, as in Detectron: on a pyramid the "
            "class loss by TRAIN.RPN_BATCH_SIZE_PER_IM * TRAIN.IMS_PER_BATCH, and the box loss of "
            "an image by the number of anchors that were drawn in it. `drawn`, as in mmdetection: "
            "both by the number of anchors that were drawn in the minibatch. The two differ where "
            "fewer anchors are drawn than TRAIN.RPN_BATCH_SIZE_PER_IM, as with RPN_NEG_POS_UB: "
            "`budget` then gives the box loss a larger weight, relative to the class loss. `auto`: "
            "`drawn` if RPN_NEG_POS_UB is not negative, else `budget`.",
            one_of("auto", "budget", "drawn"),
            used_by=WITH_RPN,
        ),
    ),
    RETINANET_SAMPLER=Section(
        "Sampling for RetinaNet. RetinaNet trains on all anchors; with these keys some negatives "
        "are ignored, all negatives are weighted, or other anchors are positive. The training log "
        "reports the numbers of positives and negatives and the share of each bin. With the focal "
        "loss, `select` and `reweight` lowered AP where they were measured (docs/results.md). To "
        "sample instead of the focal loss, use `select` with RETINANET.LOSS_GAMMA 0 and "
        "LOSS_ALPHA 0.5, which is half of the plain cross entropy. Then set RETINANET.PRIOR_PROB "
        "to the share of a class in the anchors that are trained, 1 / ((1 + NEG_PER_POS) * number "
        "of foreground classes) if MIN_NEG is 0; 0.01 fits all anchors. The scores of such a model "
        "are those of the drawn anchors: they are higher than those of a model that trained on all "
        "anchors, so choose the score thresholds anew.",
        used_by=key.RETINANET,
        MODE=Key(
            "none",
            "`none`: all negatives are used with the same weight. `select`: a draw by NEGATIVE "
            "keeps max(MIN_NEG, NEG_PER_POS * positives) negatives of each image; the others are "
            "ignored. `reweight`: all negatives are used, with weights whose sum is the same for "
            "each IoU bin. `atss`: each object has its own IoU threshold (Zhang et al., CVPR "
            "2020); all anchors below it are negatives, and RETINANET.POSITIVE_OVERLAP and "
            "NEGATIVE_OVERLAP are not used. `threshold_as_atss`, the control of `atss`: as many "
            "anchors of each image as `atss` would choose are positive, those with the highest "
            "IoU.",
            registered_in("detectron_ext.sampling.retinanet_sampler:MODES"),
        ),
        NEGATIVE=Key(
            "iou_balanced",
            "Mode `select`: how negatives are drawn, as LIBRA.SAMPLER.NEGATIVE: `random`, or "
            "`iou_balanced` (the same number from each IoU bin).",
            registered_in("detectron_ext.sampling.box_sampler:NEGATIVES"),
        ),
        NUM_BINS=Key(3, "Number of IoU bins of the negatives.", at_least(1), at_most(1000)),
        FLOOR_THRESH=Key(
            0.0, "Mode `select`, `iou_balanced`: IoU at which the bins begin.", fraction()
        ),
        FLOOR_FRACTION=Key(
            0.0,
            "Mode `select`, `iou_balanced`: share of the negatives that is drawn from below "
            "FLOOR_THRESH, as LIBRA.SAMPLER.FLOOR_FRACTION.",
            fraction(),
        ),
        BIN_RANGE=Key(
            "negatives",
            "Mode `select`, `iou_balanced`: where the bins end, as LIBRA.SAMPLER.BIN_RANGE.",
            one_of("negatives", "mmdet"),
        ),
        NEG_PER_POS=Key(
            3.0, "Mode `select`: number of negatives that each positive allows.", between(0, 1e6)
        ),
        MIN_NEG=Key(
            256, "Mode `select`: number of negatives that every image may keep.", at_least(0)
        ),
        ATSS_POSITIONS=Key(
            9,
            "Modes `atss` and `threshold_as_atss`: number of positions of each level, those "
            "nearest to the object's centre, whose anchors are candidates for the object. With 9 "
            "anchors at a position, 9 positions give 81 candidates on each level; 1 gives 9.",
            at_least(1),
            at_most(10_000),
        ),
    ),
    RETINANET_WEIGHTS=Section(
        "Weights of RetinaNet's positives that depend on the predicted boxes. They are computed in "
        "every step, without a gradient. Those of the class loss are scaled so that the sum of the "
        "positives' class losses does not change. Weights of LIBRA.RETINANET_SAMPLER.MODE are "
        "multiplied by them. The training log reports `positive_iou`, `score_iou_correlation`, and "
        "the share above IoU 0.75 in the positives and in their weights.",
        used_by=key.RETINANET,
        POSITIVE=Key(
            "none",
            "`none`: no weights. `uniform`: weights of 1, for the figures of the training log. "
            "`iou_balanced`: in proportion to u^ETA, where u is the IoU of the predicted box and "
            "its target (Wu and Li 2019). `rank_in_object`: by the rank of u among the positives "
            "of the same object. `isr_p`: by the hierarchical rank of u (Cao et al. 2020).",
            registered_in("detectron_ext.sampling.positive_weights:POSITIVE_WEIGHTS"),
        ),
        ETA=Key(1.5, "Exponent of the IoU in POSITIVE `iou_balanced`.", between(0, 100)),
        RANK_GAMMA=Key(
            2.0,
            "Exponent in POSITIVE `rank_in_object` and `isr_p`. With the rank as a share s, 1 for "
            "the best, weights are in proportion to ((1 - RANK_BIAS) * s + RANK_BIAS)^RANK_GAMMA.",
            between(0, 100),
        ),
        RANK_BIAS=Key(0.0, "See RANK_GAMMA. 1 gives all ranks the same weight.", fraction()),
        BOX=Key(
            "none",
            "Weights in the box loss. `none`: no weights. `iou_balanced`: in proportion to "
            "u^LAMBDA, where u is the IoU as above (Wu and Li 2019).",
            one_of("none", "iou_balanced"),
        ),
        LAMBDA=Key(1.5, "Exponent of the IoU in BOX `iou_balanced`.", between(0, 100)),
        BOX_MEAN_ONE=Key(
            True,
            "Scale the weights in the box loss so that their mean is 1. False leaves them at "
            "u^LAMBDA, as the authors do. The box loss falls then. A larger "
            "LIBRA.LOSS_WEIGHTS.BBOX raises it again.",
        ),
        TOTAL=Key(
            "batch",
            "Which sum of the positives' class losses the weights keep, and over what the mean of "
            "the weights in the box loss is taken: over all images of a minibatch on one device "
            "(`batch`), or over every image (`image`).",
            one_of("batch", "image"),
        ),
        SHUFFLED=Key(
            False,
            "Give the weights to the wrong positives: they change places at random, within the "
            "minibatch or the image as TOTAL says, and are scaled again. This is the control that "
            "tells whether a gain comes from the IoU.",
        ),
    ),
    RETINANET_NEGATIVES=Section(
        "Weights of RetinaNet's negatives in the class loss that depend on their gradients. A bin "
        "of the IoU with the best object (LIBRA.RETINANET_SAMPLER.NUM_BINS bins of equal width, "
        "from 0 to the IoU at which negatives end) has a mass: the sum of the absolute gradients "
        "of the focal loss of its negatives. A running average of the masses gives each bin a "
        "weight. Then all weights are scaled so that the gradients of all negatives have the same "
        "sum as without weights. Weights of LIBRA.RETINANET_WEIGHTS.POSITIVE are used beside them. "
        "The training log reports, for each bin, its share of the sum before and after "
        "(`negative_gradient_share_bin<k>`, `negative_weighted_share_bin<k>`) and its weight "
        "(`negative_weight_bin<k>`).",
        used_by=key.RETINANET,
        WEIGHTS=Key(
            "none",
            "`none`: no weights. `gradient_balanced`: (G / mean)^-TAU, where G is the running mass "
            "of the bin and the mean is that of the bins with a mass; limited by CLIP, then "
            "scaled.",
            one_of("none", "gradient_balanced"),
        ),
        TAU=Key(
            0.5,
            "Exponent. Above 0, bins with a small mass get larger weights, which makes the masses "
            "more equal. Below 0, bins with a large mass do. 0 gives weights of 1, for the figures "
            "of the training log.",
            between(-10, 10),
        ),
        CLIP=Key(
            (0.5, 2.0),
            "Bounds (low, high) of the weights before they are scaled. Scaled weights may lie "
            "outside.",
            positives(2, 2),
            ascending_pair(),
        ),
        MOMENTUM=Key(
            0.9,
            "How much of the running mass is kept in a step: G becomes MOMENTUM * G + (1 - "
            "MOMENTUM) * mass. The first mass is taken as it is. 1 keeps the first masses for "
            "ever. With several GPUs, each has a running mass of its own.",
            fraction(),
        ),
        SHUFFLED=Key(
            "none",
            "Give the weights to the wrong negatives, scaled anew, as the control that tells "
            "whether a gain comes from the bins. `negatives`: the negatives of an image exchange "
            "their weights at random. `bins`: the bins exchange their weights at random in every "
            "step.",
            one_of("none", "negatives", "bins"),
        ),
    ),
    LOSS_WEIGHTS=Section(
        "Factors on the losses of RetinaNet or of the Fast R-CNN head. The RPN's losses "
        "have no such factor.",
        used_by=WITH_DETECTIONS,
        CLS=Key(1.0, "Factor on the classification loss.", between(0, 1e6)),
        BBOX=Key(1.0, "Factor on the box regression loss; 0.5 halves it.", between(0, 1e6)),
    ),
    RETINANET_HEAD=Section(
        "The head of RetinaNet.",
        used_by=key.RETINANET,
        USE_GN=Key(False, "Use GroupNorm in the head's towers, for training from scratch."),
    ),
    AUGMENTATION=Section(
        "Random changes of the training images, in addition to TRAIN.USE_FLIPPED and TRAIN.SCALES.",
        upstream=NotUpstream("upstream's loader makes the training images", only_in_training=True),
        FLIP_VERTICAL=Key(False, "Mirror an image from top to bottom with probability 0.5."),
        ROTATE90=Key(False, "Rotate an image by a random multiple of 90 degrees."),
        SCALE_RANGE=Key(
            (1.0, 1.0),
            "Bounds (low, high) of a random factor on the image's scale.",
            positives(2, 2),
            ascending_pair(),
        ),
        CROP=Key(
            False,
            "If SCALE_RANGE enlarged an image, crop it to its usual size at a random place.",
        ),
        COLOR_JITTER=Key(
            0.0,
            "Largest relative change of brightness, contrast and saturation. Each change is "
            "random; 0 is off.",
            fraction(),
        ),
    ),
    TRAIN=Section(
        "How a training starts and runs.",
        upstream=NotUpstream("upstream loads the weights", only_in_training=True),
        LOAD=Key(
            "strict",
            "What a training takes from the file TRAIN.WEIGHTS. `strict`: a parameter of another "
            "shape is an error. `matching`: a layer with a parameter of another shape starts from "
            "its initial values, as after a change of the classes or of the detector. "
            "`matching_names`: as `matching`, and the rows of each class in the last layers are "
            "taken from the class of the same name. Parameters that the file does not have start "
            "from their initial values. The log lists what was not taken. Momenta are never taken.",
            one_of("strict", "matching", "matching_names"),
        ),
        KEEP_CHECKPOINTS=Key(
            0,
            "How many checkpoints of a run are kept. When a checkpoint has been written, those "
            "beyond the newest ones are removed. Keep at least 2: if the newest one is damaged, "
            "the one before it is resumed. The final weights are not counted. 0 keeps all.",
            at_least(0),
            affects_weights=False,
            upstream=NotUpstream("upstream writes the checkpoints itself", only_in_training=True),
        ),
        SKIP_NONFINITE=Key(
            0,
            "How many steps of a run may be skipped because a loss or a gradient is NaN or "
            "infinite. A skipped step changes neither parameters nor momenta. The training log "
            "counts them as `skipped_steps`. One more ends the run; 0 skips none. The minibatch is "
            "kept in `not_finite.pkl` of the run's folder, for `tools/replay_minibatch.py`. Above "
            "0, the gradients of each step are checked, too.",
            at_least(0),
            affects_weights=False,
            upstream=NotUpstream("upstream runs the steps itself", only_in_training=True),
        ),
        FREE_BLOBS=Key(
            True,
            "Training on the CPU: free each map and each gradient as soon as the last operator of "
            "the step that needs it has run. The results are the same, bit for bit. `False` keeps "
            "the blobs of a step in the workspace until the next step, for parts of your own that "
            "read them there. On GPUs only MEMONGER saves memory.",
            affects_weights=False,
            upstream=NotUpstream("upstream runs the steps itself", only_in_training=True),
        ),
    ),
    DATA=Section(
        "How images are read, and which of them train.",
        DEEP_IMAGES=Key(
            "refuse",
            "What images with more than 8 bits a channel become. `refuse`: they cannot be read. "
            "`stretch`: the least value of each image becomes 0 and its greatest 255. `scale`: the "
            "whole range of the type becomes 0 to 255; that of floating-point numbers is 0 to 1.",
            one_of("refuse", "stretch", "scale"),
            upstream=NotUpstream("upstream's loader reads the images"),
        ),
        upstream=NotUpstream("upstream's loader reads the images", only_in_training=True),
        SKIP_BAD_IMAGES=Key(
            False,
            "Leave out images that cannot be read, and name each of them once. A test scores the "
            "other images and lists these as `untested_images`.",
            affects_weights=False,
        ),
        KEEP_EMPTY_IMAGES=Key(
            False,
            "Train on images without any annotation, too: all of such an image is background. "
            "False leaves them out, as Detectron does. Images that have only crowds or unusable "
            "boxes are always left out.",
        ),
    ),
    IGNORE_CROWD_ANCHORS=Key(
        False,
        "Ignore RetinaNet's and the RPN's anchors inside crowd boxes (`iscrowd: 1`) in training. "
        "False takes them for background, as Detectron does. With AUGMENTATION.CROP they are "
        "always ignored, because a crop turns objects that it cuts to a small part into crowds. "
        "TRAIN.CROWD_FILTER_THRESH decides which anchors are inside.",
        used_by=WITH_ANCHORS,
        upstream=NotUpstream("upstream labels the anchors itself", only_in_training=True),
    ),
    EVALUATION=Section(
        "How detections are scored.",
        used_by=WITH_DETECTIONS,
        upstream=NotUpstream("upstream scores its detections itself"),
        affects_weights=False,
        AP_DETECTIONS=Key(
            100,
            "COCO's AP counts the 100 best detections of a class in an image. A larger number adds "
            "AP, AP50, ... that count so many: 300 adds `AP@300`, `AP50@300`, ... to the results. "
            "TEST.DETECTIONS_PER_IM must be as large.",
            at_least(100),
        ),
    ),
    CLIP_GRADIENTS=Key(
        0.0,
        "Largest norm of all gradients together (the root of the sum of their squares), before "
        "weight decay. If the norm is larger, all gradients are scaled down to it. The training "
        "log reports the norm as `gradient_norm`, and the number of iterations that were scaled "
        "down as `clipped_steps`. 0 does not limit it.",
        between(0, 1e6),
    ),
    FAST_CONV=Key(
        "auto",
        "How convolutions are computed on the CPU. `auto`: this project's 1x1 and depthwise "
        "convolutions; Winograd's minimal filtering for 3x3 filters of stride 1 where it takes "
        "less time, as a cost model of the layer's shape says; oneDNN for the others. `winograd` "
        "uses minimal filtering for all 3x3 filters of stride 1 with padding of 0 to 2, and "
        "`direct` for none. `True` is `auto`. `False` leaves all convolutions to Caffe2.",
        one_of("auto", "direct", "winograd", "True", "False"),
        upstream=NotUpstream("upstream adds its convolutions itself", only_in_training=True),
        affects_weights=False,
    ),
    FOLD_AFFINE=Key(
        True,
        "Testing on the CPU: multiply the filters of a convolution by the fixed scale of its "
        "channels (frozen BatchNorm, AffineChannel) when the weights are loaded, instead of its "
        "output. Outputs differ by rounding. Files of weights and exported models stay as they "
        "are.",
        upstream=NotUpstream("upstream builds its test nets itself"),
        affects_weights=False,
    ),
    LOG_PERIOD=Key(
        20,
        "Iterations between two lines of training statistics. A line is also written before every "
        "checkpoint.",
        at_least(1),
        affects_weights=False,
    ),
    TENSORBOARD=Key(
        False,
        "Also write the training statistics and the test scores to event files for TensorBoard, in "
        "the folder `tensorboard` of the training. It needs the package tensorboard.",
        upstream=NotUpstream("upstream writes its statistics itself", only_in_training=True),
        affects_weights=False,
    ),
    THREADS=Key(
        0,
        "Number of CPU threads. 0 uses OMP_NUM_THREADS or, if that is not set, one thread for each "
        "processor. A training with one for each processor uses fewer while other programs take "
        "the processors, if its steps are faster then; the results stay the same.",
        at_least(0),
        at_most(1024),
        upstream=NotUpstream("set OMP_NUM_THREADS before Python starts", only_in_training=True),
        affects_weights=False,
    ),
)
