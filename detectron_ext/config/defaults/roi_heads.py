"""Defaults of the heads on regions of interest: boxes, masks, keypoints."""

from __future__ import annotations

FAST_RCNN = {
    # Name of the function that builds the box head.
    "ROI_BOX_HEAD": "",
    # Width of the fully connected layers of an MLP head.
    "MLP_HEAD_DIM": 1024,
    # Channels and number of the convolutions of a convolutional head.
    "CONV_HEAD_DIM": 256,
    "NUM_STACKED_CONVS": 4,
    # Pooling of a region: RoIPoolF (RoIPool) or RoIAlign.
    "ROI_XFORM_METHOD": "RoIPoolF",
    # RoIAlign's samples along each side of a bin; 0 chooses by the region's size.
    "ROI_XFORM_SAMPLING_RATIO": 0,
    # Rows and columns of the pooled features; heads of fixed size ignore it.
    "ROI_XFORM_RESOLUTION": 14,
}

MRCNN = {
    # Name of the function that builds the mask head.
    "ROI_MASK_HEAD": "",
    # Rows and columns of a predicted mask.
    "RESOLUTION": 14,
    # Pooling of a region, as in FAST_RCNN.
    "ROI_XFORM_METHOD": "RoIAlign",
    "ROI_XFORM_RESOLUTION": 7,
    "ROI_XFORM_SAMPLING_RATIO": 0,
    # Channels of the head.
    "DIM_REDUCED": 256,
    # Dilation of the head's convolutions.
    "DILATION": 2,
    # Factor by which predicted masks are enlarged.
    "UPSAMPLE_RATIO": 1,
    # Predict the mask with a fully connected layer rather than a convolution.
    "USE_FC_OUTPUT": False,
    # Initializer of the head's weights.
    "CONV_INIT": "GaussianFill",
    # Predict one mask for each class rather than one for all.
    "CLS_SPECIFIC_MASK": True,
    # Factor on the mask loss.
    "WEIGHT_LOSS_MASK": 1.0,
    # Probability from which a pixel belongs to the mask.
    "THRESH_BINARIZE": 0.5,
}

KRCNN = {
    # Name of the function that builds the keypoint head.
    "ROI_KEYPOINTS_HEAD": "",
    # Keypoints of an instance, 17 for COCO; must be set when keypoints are on.
    "NUM_KEYPOINTS": -1,
    # Rows and columns of a heat map, on which the loss is computed.
    "HEATMAP_SIZE": -1,
    # Factor by which heat maps are enlarged bilinearly.
    "UP_SCALE": -1,
    # Add a transposed convolution before the heat maps, with this many channels.
    "USE_DECONV": False,
    "DECONV_DIM": 256,
    # Predict the heat maps by a transposed convolution.
    "USE_DECONV_OUTPUT": False,
    # Kernel size of all transposed convolutions.
    "DECONV_KERNEL": 4,
    # The head's convolutions: dilation, number, channels, kernel size, initializer.
    "DILATION": 1,
    "NUM_STACKED_CONVS": 8,
    "CONV_HEAD_DIM": 256,
    "CONV_HEAD_KERNEL": 3,
    "CONV_INIT": "GaussianFill",
    # Pooling of a region, as in FAST_RCNN.
    "ROI_XFORM_METHOD": "RoIAlign",
    "ROI_XFORM_RESOLUTION": 7,
    "ROI_XFORM_SAMPLING_RATIO": 0,
    # Suppress by keypoint similarity (OKS) rather than by box IoU.
    "NMS_OKS": False,
    # What a person is scored by: bbox (the box score), logit or prob (the heat maps).
    "KEYPOINT_CONFIDENCE": "bbox",
    # Minibatches with fewer labelled keypoints are discarded.
    "MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH": 20,
    # Least side in pixels that a heat map is resized to when keypoints are read off.
    "INFERENCE_MIN_SIZE": 0,
    # Factor on the keypoint loss: 1 suits the normalization below, 4 suits it switched off.
    "LOSS_WEIGHT": 1.0,
    # Divide the loss by the visible keypoints rather than by all there could be.
    "NORMALIZE_BY_VISIBLE_KEYPOINTS": True,
}
