"""Defaults of the region proposal network without a pyramid, and of R-FCN's pooling."""

from __future__ import annotations

RPN = {
    # The model has an RPN. Inferred from MODEL.FASTER_RCNN and MODEL.RPN_ONLY.
    "RPN_ON": False,
    # Anchor sides in pixels of the resized image; with a pyramid see FPN.RPN_ANCHOR_START_SIZE.
    "SIZES": (64, 128, 256, 512),
    # Pixels of the resized image between neighbouring positions of the RPN's feature map.
    "STRIDE": 16,
    # Height-to-width ratios of the anchors.
    "ASPECT_RATIOS": (0.5, 1, 2),
}

RFCN = {
    # Rows and columns of the position-sensitive pooling grid.
    "PS_GRID_SIZE": 3,
}
