"""Keys of training: data, region minibatches, proposals made on the fly, checkpoints."""

from __future__ import annotations

from detectron_ext.config.keys import proposals
from detectron_ext.config.keys.key import (
    FAST_RCNN,
    UPSTREAM_ONLY,
    WITH_BOX_HEAD,
    WITH_REGIONS,
    WITH_RPN,
    Formerly,
    Key,
    Section,
)
from detectron_ext.config.rules import (
    at_least,
    at_most,
    each_at_most,
    fraction,
    not_above,
    one_of,
    positives,
    texts,
)

NAMES_ADVICE = "list the names, split at the colons, in a tuple: ('a', 'b'), or ('a',) for one"
FILES_ADVICE = "list the files, split at the colons, in a tuple: ('a', 'b'), or ('a',) for one"

TRAIN = Section(
    "How a model is trained.",
    affects_weights=True,
    WEIGHTS=Key(
        "",
        "Weights file that training starts from, or `imagenet://EfficientNetLite0`. If it is "
        "empty, training starts from random weights. See also LIBRA.TRAIN.LOAD.",
        is_path=True,
    ),
    DATASETS=Key(
        (),
        "Names of the data sets. Several data sets are joined into one.",
        texts(),
        formerly=Formerly("TRAIN.DATASET", NAMES_ADVICE),
    ),
    SCALES=Key(
        (600,),
        "Lengths in pixels to which the shorter image side is resized. One of them is drawn at "
        "random for each image.",
        positives(1),
        each_at_most(32767),
    ),
    MAX_SIZE=Key(
        1000,
        "Upper limit in pixels for the longer side after resizing; it takes precedence over the "
        "scale.",
        at_least(1),
        at_most(32767),
    ),
    IMS_PER_BATCH=Key(
        2,
        "Images in the minibatch of one device. An iteration reads this number times the number of "
        "devices.",
        at_least(1),
        at_most(4096),
    ),
    USE_FLIPPED=Key(True, "Put mirrored copies of all images into the training set."),
    ASPECT_GROUPING=Key(
        True, "Put only wide or only tall images into a minibatch, so that less padding is needed."
    ),
    GT_MIN_AREA=Key(
        -1, "Ground-truth boxes with a smaller area in square pixels are dropped; -1 keeps all."
    ),
    CROWD_FILTER_THRESH=Key(
        0.7,
        "A proposal is not used as a negative if more than this fraction of its area lies in a "
        "crowd box; 0 or less turns the filter off. The same holds for an anchor if "
        "LIBRA.IGNORE_CROWD_ANCHORS or LIBRA.AUGMENTATION.CROP is True.",
    ),
    # ---- Region minibatch of the Fast R-CNN head ----
    BATCH_SIZE_PER_IM=Key(
        64,
        "Regions sampled from each image.",
        at_least(1),
        at_most(100_000),
        used_by=WITH_BOX_HEAD,
    ),
    FG_FRACTION=Key(
        0.25,
        "Largest share of foreground in the sampled regions. If there are too few foreground "
        "regions, more background is sampled.",
        fraction(),
        used_by=WITH_BOX_HEAD,
    ),
    FG_THRESH=Key(
        0.5,
        "A region is foreground if its IoU with a ground-truth box is at least this.",
        fraction(),
        used_by=WITH_BOX_HEAD,
    ),
    BG_THRESH_HI=Key(
        0.5,
        "A region is background if its best IoU lies in [BG_THRESH_LO, BG_THRESH_HI).",
        fraction(),
        used_by=WITH_BOX_HEAD,
    ),
    BG_THRESH_LO=Key(
        0.0,
        "Smallest IoU of a background region; see BG_THRESH_HI.",
        fraction(),
        not_above("TRAIN.BG_THRESH_HI"),
        used_by=WITH_BOX_HEAD,
    ),
    BBOX_THRESH=Key(
        0.5,
        "A region trains box regression if its IoU with a ground-truth box is at least this.",
        fraction(),
        used_by=WITH_BOX_HEAD,
    ),
    PROPOSAL_FILES=Key(
        (),
        "Files of precomputed proposals, one for each of DATASETS. All of their boxes are used.",
        texts(),
        used_by=FAST_RCNN,
        formerly=Formerly("TRAIN.PROPOSAL_FILE", FILES_ADVICE),
        is_path=True,
    ),
    # ---- Region proposal network ----
    GENERATE_PROPOSALS_ON_GPU=Key(
        False,
        "Compute proposals with the GPU operator where there is one.",
        used_by=UPSTREAM_ONLY,
        affects_weights=False,
    ),
    RPN_POSITIVE_OVERLAP=Key(
        0.7,
        "An anchor is positive if its IoU with a ground-truth box is at least this.",
        fraction(),
        used_by=WITH_RPN,
    ),
    RPN_NEGATIVE_OVERLAP=Key(
        0.3,
        "An anchor is negative if its best IoU is below this.",
        fraction(),
        not_above("TRAIN.RPN_POSITIVE_OVERLAP"),
        used_by=WITH_RPN,
    ),
    RPN_FG_FRACTION=Key(
        0.5,
        "Largest share of positives among the sampled anchors.",
        fraction(),
        used_by=WITH_RPN,
    ),
    RPN_BATCH_SIZE_PER_IM=Key(
        256, "Anchors sampled from each image.", at_least(1), used_by=WITH_RPN
    ),
    RPN_NMS_THRESH=proposals.RPN_NMS_THRESH,
    RPN_PRE_NMS_TOP_N=proposals.RPN_PRE_NMS_TOP_N,
    RPN_POST_NMS_TOP_N=proposals.RPN_POST_NMS_TOP_N,
    RPN_STRADDLE_THRESH=Key(
        0,
        "Anchors that extend beyond the image by more than this many pixels are not used; -1 uses "
        "all.",
        used_by=WITH_RPN,
    ),
    RPN_MIN_SIZE=proposals.RPN_MIN_SIZE,
    # ---- Checkpoints and frozen layers ----
    SNAPSHOT_ITERS=Key(
        80000,
        "Iterations between checkpoints. The number is divided by the number of devices "
        "or processes.",
        at_least(1),
        affects_weights=False,
    ),
    AUTO_RESUME=Key(
        True,
        "Continue from the newest checkpoint in the output folder, if there is one. False starts "
        "again from the beginning. Weights in the output folder are then moved to a new folder "
        "`earlier_1` inside it.",
        affects_weights=False,
    ),
    COPY_WEIGHTS=Key(
        False,
        "Copy the file WEIGHTS into the output folder, so that a resumed run finds it there.",
        used_by=UPSTREAM_ONLY,
        affects_weights=False,
    ),
    FREEZE_CONV_BODY=Key(
        False,
        "Keep every backbone parameter at its initial value. For RetinaNet, set FREEZE_AT instead.",
        used_by=WITH_REGIONS,
    ),
    FREEZE_AT=Key(
        2,
        "Number of the last stage of the backbone that is not trained, 2 to 5; 0 trains all "
        "stages. Stage 2 includes all layers before the map of stride 4 (conv1 and res2 of a "
        "ResNet). Stages 3, 4 and 5 end in the maps of strides 8, 16 and 32.",
        one_of(0, 2, 3, 4, 5),
    ),
)
