"""Boxes up to their last pixel, which everything here holds, and boxes up to their far edges."""

from __future__ import annotations


def shift_far_edges(model, rois, blob_out: str, distance: float):
    """Move the far corners of regions.

    Args:
        model: gets the operators.
        rois: (R, 5) float32 rows image, x1, y1, x2, y2 in pixels.
        blob_out: name of the moved regions.
        distance: 1 takes last pixels to edges, -1 takes edges to last pixels.

    Returns:
        The moved regions, (R, 5) float32.
    """
    offset = model.param_init_net.GivenTensorFill(
        [], f"{blob_out}_offset", shape=[5], values=[0.0, 0.0, 0.0, distance, distance]
    )
    return model.net.Add([rois, offset], blob_out, broadcast=1)
