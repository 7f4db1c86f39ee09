"""Two conventions of boxes: x2 and y2 are the last pixel, or the edge behind the last pixel.

This package uses the first. LIBRA.BOX_CONVENTION mmdet asks for the second inside the network.
"""

from __future__ import annotations

from detectron_ext.modeling.layers import Blob
from detectron_ext.modeling.model import DetectionModel


def shift_far_edges(model: DetectionModel, rois: Blob, blob_out: str, distance: float) -> Blob:
    """Add an operator that moves the corners (x2, y2) of regions.

    Args:
        model: gets the operators.
        rois: (R, 5) float32 rows (image, x1, y1, x2, y2) in pixels.
        blob_out: name of the moved regions.
        distance: pixels that are added to x2 and y2. 1 converts last pixels to edges, -1 converts
            edges to last pixels.

    Returns:
        The moved regions, (R, 5) float32.
    """
    offset = model.param_init_net.GivenTensorFill(
        [], f"{blob_out}_offset", shape=[5], values=[0.0, 0.0, 0.0, distance, distance]
    )
    return model.net.Add([rois, offset], blob_out, broadcast=1)
