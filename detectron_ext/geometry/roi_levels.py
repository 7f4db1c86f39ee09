"""The pyramid level that a region of interest is pooled from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectron_ext.geometry.boxes import widths_heights

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def roi_levels(boxes: np.ndarray, config: Settings) -> np.ndarray:
    """Return the pyramid level of every region: k0 + log2(side / canonical side), rounded down.

    This is equation 1 of Lin et al., "Feature Pyramid Networks" (CVPR 2017).

    Args:
        boxes: (R, 4) in network pixels.
        config: FPN.ROI_CANONICAL_LEVEL (k0), ROI_CANONICAL_SCALE, ROI_MIN_LEVEL, ROI_MAX_LEVEL.

    Returns:
        (R,) int64 from ROI_MIN_LEVEL to ROI_MAX_LEVEL.
    """
    fpn = config.FPN
    width, height = widths_heights(boxes)
    side = np.sqrt(np.maximum(width * height, 0)) / fpn.ROI_CANONICAL_SCALE
    # The small number keeps a side that is a power of two on its level despite rounding errors.
    levels = np.floor(fpn.ROI_CANONICAL_LEVEL + np.log2(side + 1e-6))
    return np.clip(levels, fpn.ROI_MIN_LEVEL, fpn.ROI_MAX_LEVEL).astype(np.int64)


def roi_level_names(name: str, config: Settings) -> list[str]:
    """Return the names of the blobs of :func:`distribute_rois`, in its order."""
    levels = range(config.FPN.ROI_MIN_LEVEL, config.FPN.ROI_MAX_LEVEL + 1)
    return [f"{name}_fpn{level}" for level in levels] + [f"{name}_idx_restore_int32"]


def distribute_rois(
    rois: np.ndarray, config: Settings, name: str = "rois"
) -> dict[str, np.ndarray]:
    """Sort regions by pyramid level.

    Args:
        rois: (R, 5) float32 rows image, x1, y1, x2, y2 in network pixels.
        config: a merged configuration; see :func:`roi_levels`.
        name: beginning of the blobs' names.

    Returns:
        A blob ``<name>_fpn<level>`` for each level: (R_level, 5), its regions in their order;
        R_level may be 0. A blob ``<name>_idx_restore_int32``: (R,) int32, the row of each region in
        the concatenation of the levels, finest first.
    """
    levels = roi_levels(rois[:, 1:], config)
    order = np.argsort(levels, kind="stable")
    restore = np.empty(len(rois), dtype=np.int32)
    restore[order] = np.arange(len(rois), dtype=np.int32)
    finest, coarsest = config.FPN.ROI_MIN_LEVEL, config.FPN.ROI_MAX_LEVEL
    ends = np.searchsorted(levels[order], np.arange(finest, coarsest), side="right")
    parts = np.split(np.ascontiguousarray(rois[order]), ends)
    return dict(zip(roi_level_names(name, config), [*parts, restore]))
