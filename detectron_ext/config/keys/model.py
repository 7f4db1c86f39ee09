"""Keys of the model as a whole: which network, how many classes, which outputs."""

from __future__ import annotations

from detectron_ext.config.keys.key import WITH_BOX_HEAD, WITH_REGIONS, Key, Section
from detectron_ext.config.rules import at_most, folder_name, positives

MODEL = Section(
    "The model as a whole.",
    affects_weights=True,
    TYPE=Key(
        "",
        "The detector: `retinanet`, or `generalized_rcnn` for Fast R-CNN, Faster R-CNN and "
        "RPN-only models. Upstream accepts further names.",
        folder_name(),
    ),
    CONV_BODY=Key(
        "",
        "Name of the function that builds the backbone, such as `FPN.add_fpn_ResNet50_conv5_body` "
        "or `FPN.add_fpn_EfficientNetLite0_conv5_body`.",
    ),
    NUM_CLASSES=Key(
        -1,
        "Number of classes including the background, 81 for COCO. Every model needs it.",
        at_most(100_000),
    ),
    CLS_AGNOSTIC_BBOX_REG=Key(
        False,
        "Predict one box for all classes, instead of one box for each class.",
        used_by=WITH_BOX_HEAD,
    ),
    BBOX_REG_WEIGHTS=Key(
        (10.0, 10.0, 5.0, 5.0),
        "Factors on the regression targets (dx, dy, dw, dh) that bring them near unit variance.",
        positives(4, 4),
        used_by=WITH_BOX_HEAD,
    ),
    FASTER_RCNN=Key(
        False,
        "Train the RPN and the Fast R-CNN head together, and test the head on the RPN's proposals.",
        used_by=WITH_REGIONS,
    ),
    MASK_ON=Key(
        False,
        "Predict instance masks. Only upstream Detectron can do this. This project reports an "
        "error when it builds such a model.",
        used_by=WITH_REGIONS,
    ),
    KEYPOINTS_ON=Key(
        False,
        "Predict keypoints. Only upstream Detectron can do this. This project reports an error "
        "when it builds such a model.",
        used_by=WITH_REGIONS,
    ),
    RPN_ONLY=Key(
        False,
        "Build only the RPN. The model outputs proposals and has no detection head.",
    ),
    EXECUTION_TYPE=Key(
        "dag",
        "How Caffe2 schedules the net; `prof_dag` adds timing statistics.",
        affects_weights=False,
    ),
)
