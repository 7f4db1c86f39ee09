"""Defaults of training: data, region minibatches, proposals made on the fly, snapshots."""

from __future__ import annotations

TRAIN = {
    # Weights file that training starts from; empty trains from the initializers.
    "WEIGHTS": "",
    # Catalog names of the data sets; several are joined into one.
    "DATASETS": (),
    # Lengths in pixels that the shorter image side is resized to; one is drawn per image.
    "SCALES": (600,),
    # Upper limit in pixels for the longer side after resizing; it wins over the scale.
    "MAX_SIZE": 1000,
    # Images in one device's minibatch; the global batch is this times the number of devices.
    "IMS_PER_BATCH": 2,
    # Put mirrored copies of all images into the training set.
    "USE_FLIPPED": True,
    # Batch wide images with wide ones and tall with tall, which wastes less padding.
    "ASPECT_GROUPING": True,
    # Ground-truth boxes below this area in square pixels are dropped; -1 keeps all.
    "GT_MIN_AREA": -1,
    # Proposals with more than this fraction of their area in a crowd region are dropped; 0 or less
    # keeps them.
    "CROWD_FILTER_THRESH": 0.7,
    # ---- Region minibatch of the Fast R-CNN head ----
    # Regions sampled from each image.
    "BATCH_SIZE_PER_IM": 64,
    # Share of those regions that should be foreground, as far as there are enough.
    "FG_FRACTION": 0.25,
    # A region is foreground from this IoU with a ground-truth box upward.
    "FG_THRESH": 0.5,
    # A region is background when its best IoU lies in [BG_THRESH_LO, BG_THRESH_HI).
    "BG_THRESH_HI": 0.5,
    "BG_THRESH_LO": 0.0,
    # Least IoU between a region and a ground-truth box for the pair to train box regression.
    "BBOX_THRESH": 0.5,
    # Files of precomputed proposals, one for each of DATASETS, all of whose boxes are used.
    "PROPOSAL_FILES": (),
    # ---- Region proposal network ----
    # Compute proposals with the GPU operator where there is one.
    "GENERATE_PROPOSALS_ON_GPU": False,
    # An anchor is positive from this IoU with a ground-truth box upward.
    "RPN_POSITIVE_OVERLAP": 0.7,
    # An anchor is negative when its best IoU is below this.
    "RPN_NEGATIVE_OVERLAP": 0.3,
    # Share of the sampled anchors that should be positive.
    "RPN_FG_FRACTION": 0.5,
    # Anchors sampled from each image.
    "RPN_BATCH_SIZE_PER_IM": 256,
    # IoU above which of two proposals the lower-scored one is suppressed.
    "RPN_NMS_THRESH": 0.7,
    # Best-scored proposals that enter suppression; with a pyramid, at each level.
    "RPN_PRE_NMS_TOP_N": 12000,
    # Proposals kept after suppression; with a pyramid, over all levels.
    "RPN_POST_NMS_TOP_N": 2000,
    # Anchors reaching further than this many pixels out of the image are unused; -1 uses all.
    "RPN_STRADDLE_THRESH": 0,
    # Proposals need sides longer than this, in pixels of the original image.
    "RPN_MIN_SIZE": 0,
    # ---- Snapshots and frozen layers ----
    # Iterations between snapshots on one device; divided by the number of devices.
    "SNAPSHOT_ITERS": 80000,
    # Continue from the newest snapshot in the output folder, if there is one; False starts anew and
    # sets what lies there aside.
    "AUTO_RESUME": True,
    # Copy WEIGHTS into the output folder, where resuming will find it.
    "COPY_WEIGHTS": False,
    # Keep every backbone parameter at its initial value; without effect on RetinaNet, where it is
    # FREEZE_AT that does so.
    "FREEZE_CONV_BODY": False,
    # Last ResNet stage that stays frozen: 2 to 5 (2 is conv1 and res2); 0 trains everything.
    "FREEZE_AT": 2,
}
