"""Defaults of the model as a whole: which network, how many classes, which outputs."""

from __future__ import annotations

MODEL = {
    # Name of the function that builds the model, such as retinanet or generalized_rcnn.
    "TYPE": "",
    # Name of the function that builds the backbone, such as FPN.add_fpn_ResNet50_conv5_body.
    "CONV_BODY": "",
    # Classes with the background counted, 81 for COCO; a model cannot be built without it.
    "NUM_CLASSES": -1,
    # Regress one box for all classes rather than one for each.
    "CLS_AGNOSTIC_BBOX_REG": False,
    # Factors on the regression targets (dx, dy, dw, dh) that bring them near unit variance.
    "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    # Train the RPN and the Fast R-CNN head together; in testing, take the RPN's proposals.
    "FASTER_RCNN": False,
    # Predict instance masks.
    "MASK_ON": False,
    # Predict keypoints.
    "KEYPOINTS_ON": False,
    # Stop at the proposals: the model has no detection head.
    "RPN_ONLY": False,
    # Caffe2's way to schedule the net; prof_dag adds timing statistics.
    "EXECUTION_TYPE": "dag",
}
