"""Anchors: the fixed boxes that a dense detector classifies and moves.

Sizes and rounding follow Faster R-CNN's original rule, which published weights rely on: a window of
stride x stride pixels gets each aspect ratio, its sides are rounded to whole pixels, and it is
scaled. With LIBRA.BOX_CONVENTION mmdet they follow mmdetection's rule.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def rounded_sides(stride: float, ratio: float) -> tuple[float, float]:
    """Return width and height of a window of stride x stride pixels after it got an aspect ratio.

    Both are whole numbers. They are 0 for a ratio that is too extreme for the stride: such anchors
    have no area, and their regression targets are not finite. Detectron makes them silently;
    `config.validate` refuses the ratio.

    Args:
        stride: pixels between neighbouring cells.
        ratio: height / width.
    """
    width = np.round(np.sqrt(stride * stride / ratio))
    return width, np.round(width * ratio)


def cell_anchors(
    stride: float, sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> np.ndarray:
    """Return the anchors of the grid cell at the origin.

    Args:
        stride: pixels between neighbouring cells.
        sizes: square roots of the anchor areas, in pixels.
        aspect_ratios: height / width.

    Returns:
        (len(aspect_ratios) * len(sizes), 4) float64 boxes, aspect ratios outermost.
    """
    center = 0.5 * (stride - 1)
    anchors = []
    for ratio in aspect_ratios:
        width, height = rounded_sides(stride, ratio)
        for size in sizes:
            half_width = 0.5 * (width * size / stride - 1)
            half_height = 0.5 * (height * size / stride - 1)
            anchors.append(
                (
                    center - half_width,
                    center - half_height,
                    center + half_width,
                    center + half_height,
                )
            )
    return np.array(anchors, dtype=np.float64)


def corner_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    """Return the anchors of the grid cell at the origin by the rule of mmdetection 2 and later.

    They are centred on the top left corner of the cell, and their sides are not rounded. In
    mmdetection a box of width w ends at x1 + w; here it ends at its last pixel, x1 + w - 1.

    Args:
        sizes: square roots of the anchor areas, in pixels.
        aspect_ratios: height / width.

    Returns:
        (len(aspect_ratios) * len(sizes), 4) float64 boxes, aspect ratios outermost.
    """
    ratios, scales = np.meshgrid(np.sqrt(aspect_ratios), sizes, indexing="ij")
    half = np.stack((scales / ratios, scales * ratios), axis=-1).reshape(-1, 2) / 2
    return np.concatenate((-half, half - 1), axis=1)


def _config_anchors(
    stride: float, sizes: Sequence[float], aspect_ratios: Sequence[float], config: Settings
) -> np.ndarray:
    if config.LIBRA.BOX_CONVENTION == "mmdet":
        return corner_anchors(sizes, aspect_ratios)
    return cell_anchors(stride, sizes, aspect_ratios)


class AnchorLevel(NamedTuple):
    """The anchors of one feature map.

    Attributes:
        suffix: end of the names of the feature map's blobs: ``_fpn3``, or "" without a pyramid.
        stride: pixels between neighbouring cells.
        cell: (A, 4) float64 anchors of the cell at the origin.
    """

    suffix: str
    stride: float
    cell: np.ndarray


def pyramid_levels(config: Settings) -> range:
    """Return the pyramid levels of the RPN or of RetinaNet's heads, finest first."""
    return range(config.FPN.RPN_MIN_LEVEL, config.FPN.RPN_MAX_LEVEL + 1)


def rpn_anchor_levels(config: Settings) -> list[AnchorLevel]:
    """Return the RPN's anchors: for each pyramid level, finest first, or for the map of a C4 body.

    On a pyramid each level has one size: FPN.RPN_ANCHOR_START_SIZE on the finest level, and twice
    the size on each next one (Lin et al., "Feature Pyramid Networks", section 4.1). Without a
    pyramid there are RPN.SIZES at RPN.STRIDE. Anchors are in the order of the predictions'
    channels: aspect ratios outermost.
    """
    if not (config.FPN.FPN_ON and config.FPN.MULTILEVEL_RPN):
        rpn = config.RPN
        cell = _config_anchors(rpn.STRIDE, rpn.SIZES, rpn.ASPECT_RATIOS, config)
        return [AnchorLevel("", float(rpn.STRIDE), cell)]
    fpn = config.FPN
    levels = []
    for level in pyramid_levels(config):
        size = fpn.RPN_ANCHOR_START_SIZE * 2.0 ** (level - fpn.RPN_MIN_LEVEL)
        cell = _config_anchors(2.0**level, [size], fpn.RPN_ASPECT_RATIOS, config)
        levels.append(AnchorLevel(f"_fpn{level}", 2.0**level, cell))
    return levels


def retinanet_anchor_levels(config: Settings) -> list[AnchorLevel]:
    """Return RetinaNet's anchors on every level of the pyramid, finest first."""
    return [
        AnchorLevel(f"_fpn{level}", 2.0**level, retinanet_cell_anchors(level, config))
        for level in pyramid_levels(config)
    ]


def retinanet_cell_anchors(level: int, config: Settings) -> np.ndarray:
    """Return RetinaNet's anchors of one cell of a pyramid level (Lin et al., section 4).

    Returns:
        (A, 4) float64, octave scales outermost, aspect ratios within: the channel order of the
        heads' predictions. A = SCALES_PER_OCTAVE * len(ASPECT_RATIOS).
    """
    settings = config.RETINANET
    stride = 2.0**level
    octaves = [
        _config_anchors(
            stride,
            [stride * settings.ANCHOR_SCALE * 2.0 ** (octave / settings.SCALES_PER_OCTAVE)],
            settings.ASPECT_RATIOS,
            config,
        )
        for octave in range(settings.SCALES_PER_OCTAVE)
    ]
    return np.concatenate(octaves)


def grid_anchors(cell: np.ndarray, stride: float, height: int, width: int) -> np.ndarray:
    """Return the anchors of a whole feature map.

    Args:
        cell: (A, 4) anchors of the cell at the origin, in pixels.
        stride: pixels between neighbouring cells.
        height, width: size of the feature map in cells.

    Returns:
        (A, height, width, 4) float32.
    """
    x = np.arange(width) * stride
    y = np.arange(height) * stride
    shifts = np.stack(np.broadcast_arrays(x[None, :], y[:, None], x[None, :], y[:, None]), axis=-1)
    return (cell[:, None, None, :] + shifts[None]).astype(np.float32)


class AnchorGrids:
    """The anchors of whole images, with a cache of the last image sizes.

    The class is thread-safe: the loader's threads share one instance.

    Args:
        levels: the feature maps.
    """

    def __init__(self, levels: Sequence[AnchorLevel]):
        self.levels = tuple(levels)
        self._grids = lru_cache(maxsize=16)(self._make_grids)

    def __call__(self, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the anchors of an image of height x width network pixels.

        A part of a stride at the border counts as a cell.

        Returns:
            flat: (K, 4) float32, the anchors of all levels one after the other.
            grids: for each level a view of ``flat``, (A, rows, columns, 4).
        """
        return self._grids(height, width)

    def _make_grids(self, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
        grids = [
            grid_anchors(level.cell, level.stride, *_grid_size(height, width, level.stride))
            for level in self.levels
        ]
        flat = np.concatenate([grid.reshape(-1, 4) for grid in grids])
        ends = np.cumsum([grid.size // 4 for grid in grids])
        parts = np.split(flat, ends[:-1])
        return flat, [part.reshape(grid.shape) for part, grid in zip(parts, grids)]


def _grid_size(height: int, width: int, stride: float) -> tuple[int, int]:
    return int(-(-height // stride)), int(-(-width // stride))
