"""Keys of the heads on regions of interest: boxes, masks, keypoints."""

from __future__ import annotations

from detectron_ext.config.keys.key import UPSTREAM_ONLY, WITH_BOX_HEAD, Formerly, Key, Section
from detectron_ext.config.rules import at_least, at_most, one_of

FAST_RCNN = Section(
    "The box head of Fast R-CNN and Faster R-CNN.",
    affects_weights=True,
    used_by=WITH_BOX_HEAD,
    ROI_BOX_HEAD=Key(
        "",
        "Name of the function that builds the box head.",
        formerly=Formerly("MODEL.ROI_HEAD"),
    ),
    MLP_HEAD_DIM=Key(
        1024,
        "Number of outputs of each fully connected layer of an MLP head.",
        at_least(1),
        at_most(65536),
    ),
    CONV_HEAD_DIM=Key(256, "Channels of a convolutional head.", at_least(1), at_most(16384)),
    NUM_STACKED_CONVS=Key(
        4, "Number of convolutions of a convolutional head.", at_least(0), at_most(64)
    ),
    ROI_XFORM_METHOD=Key("RoIPoolF", "Pooling of a region: `RoIPoolF` (RoIPool) or `RoIAlign`."),
    ROI_XFORM_SAMPLING_RATIO=Key(
        0,
        "Number of RoIAlign's sampling points along each side of a bin. 0 chooses the number by "
        "the size of the region.",
    ),
    ROI_XFORM_RESOLUTION=Key(
        14,
        "Rows and columns of the pooled features. A head with a fixed input size ignores this key.",
        at_least(1),
        at_most(256),
    ),
)

MRCNN = Section(
    "The mask head.",
    used_by=UPSTREAM_ONLY,
    ROI_MASK_HEAD=Key(
        "",
        "Name of the function that builds the mask head.",
        formerly=Formerly("MRCNN.MASK_HEAD_NAME"),
    ),
    RESOLUTION=Key(14, "Rows and columns of a predicted mask."),
    ROI_XFORM_METHOD=Key("RoIAlign", "See FAST_RCNN.ROI_XFORM_METHOD."),
    ROI_XFORM_RESOLUTION=Key(7, "See FAST_RCNN.ROI_XFORM_RESOLUTION."),
    ROI_XFORM_SAMPLING_RATIO=Key(0, "See FAST_RCNN.ROI_XFORM_SAMPLING_RATIO."),
    DIM_REDUCED=Key(256, "Channels of the head."),
    DILATION=Key(2, "Dilation of the head's convolutions."),
    UPSAMPLE_RATIO=Key(1, "Factor by which predicted masks are enlarged."),
    USE_FC_OUTPUT=Key(
        False, "Predict the mask with a fully connected layer, instead of a convolution."
    ),
    CONV_INIT=Key("GaussianFill", "Initializer of the head's weights."),
    CLS_SPECIFIC_MASK=Key(
        True, "Predict one mask for each class, instead of one mask for all classes."
    ),
    WEIGHT_LOSS_MASK=Key(1.0, "Factor on the mask loss."),
    THRESH_BINARIZE=Key(0.5, "Probability above which a pixel belongs to the mask."),
)

KRCNN = Section(
    "The keypoint head.",
    used_by=UPSTREAM_ONLY,
    ROI_KEYPOINTS_HEAD=Key("", "Name of the function that builds the keypoint head."),
    NUM_KEYPOINTS=Key(
        -1, "Number of keypoints of an object, 17 for COCO. It must be set if KEYPOINTS_ON is True."
    ),
    HEATMAP_SIZE=Key(-1, "Rows and columns of the heat maps from which the loss is computed."),
    UP_SCALE=Key(-1, "Factor by which heat maps are enlarged by bilinear interpolation."),
    USE_DECONV=Key(False, "Add a transposed convolution before the heat maps."),
    DECONV_DIM=Key(256, "Channels of that transposed convolution."),
    USE_DECONV_OUTPUT=Key(False, "Predict the heat maps by a transposed convolution."),
    DECONV_KERNEL=Key(4, "Kernel size of all transposed convolutions."),
    DILATION=Key(1, "Dilation of the head's convolutions."),
    NUM_STACKED_CONVS=Key(8, "Number of the head's convolutions."),
    CONV_HEAD_DIM=Key(256, "Channels of the head's convolutions."),
    CONV_HEAD_KERNEL=Key(3, "Kernel size of the head's convolutions."),
    CONV_INIT=Key("GaussianFill", "Initializer of the head's convolutions."),
    ROI_XFORM_METHOD=Key("RoIAlign", "See FAST_RCNN.ROI_XFORM_METHOD."),
    ROI_XFORM_RESOLUTION=Key(7, "See FAST_RCNN.ROI_XFORM_RESOLUTION."),
    ROI_XFORM_SAMPLING_RATIO=Key(0, "See FAST_RCNN.ROI_XFORM_SAMPLING_RATIO."),
    NMS_OKS=Key(
        False,
        "Use keypoint similarity (OKS) instead of box IoU in non-maximum suppression.",
    ),
    KEYPOINT_CONFIDENCE=Key(
        "bbox",
        "What the score of a person is computed from: the score of the box (`bbox`), or the logits "
        "(`logit`) or probabilities (`prob`) of the heat maps.",
        one_of("bbox", "logit", "prob"),
    ),
    MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH=Key(
        20, "Minibatches with fewer labelled keypoints than this are discarded."
    ),
    INFERENCE_MIN_SIZE=Key(
        0, "Smallest side in pixels to which a heat map is resized before its keypoints are read."
    ),
    LOSS_WEIGHT=Key(
        1.0,
        "Factor on the keypoint loss. 1 suits NORMALIZE_BY_VISIBLE_KEYPOINTS True, 4 suits False.",
    ),
    NORMALIZE_BY_VISIBLE_KEYPOINTS=Key(
        True,
        "Divide the loss by the number of visible keypoints, instead of by the number of all "
        "possible keypoints.",
    ),
)
