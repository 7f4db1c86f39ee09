from __future__ import annotations

import numpy as np

from detectron_ext import config as configuration
from detectron_ext.geometry.anchors import (
    grid_anchors,
    pyramid_levels,
    retinanet_anchor_levels,
    retinanet_cell_anchors,
    rpn_anchor_levels,
)


def test_p3_anchors_are_the_published_ones():
    """Worked by hand: an 8x8 window reshaped to 8x8, 6x12 and 11x6 pixels, times four."""
    config = configuration.load(None, ["RETINANET.ASPECT_RATIOS", "(1.0, 2.0, 0.5)"])
    anchors = retinanet_cell_anchors(3, config)
    assert anchors.shape == (9, 4)
    expected = [[-12, -12, 19, 19], [-8, -20, 15, 27], [-18, -8, 25, 15]]
    np.testing.assert_allclose(anchors[:3], expected)


def test_octaves_scale_the_anchors():
    config = configuration.load(None)
    first, second = np.split(retinanet_cell_anchors(5, config), 3)[:2]
    sizes = [(a[:, 2:] - a[:, :2] + 1).prod(axis=1) for a in (first, second)]
    np.testing.assert_allclose(sizes[1] / sizes[0], 2 ** (2 / 3))


def test_grid_moves_x_along_the_width():
    grid = grid_anchors(np.array([[0.0, 0.0, 7.0, 7.0]]), 8, height=2, width=3)
    assert grid.shape == (1, 2, 3, 4)
    np.testing.assert_array_equal(grid[0, 1, 2], [16, 8, 23, 15])


def test_mmdetections_anchors_lie_around_the_corner_with_exact_sides():
    """Worked by hand: 32 pixels of stride 8 as 1:2, 1:1; a box ends at its last pixel here."""
    ratios = ["RETINANET.ASPECT_RATIOS", "(0.5, 1.0)", "LIBRA.BOX_CONVENTION", "mmdet"]
    anchors = retinanet_cell_anchors(3, configuration.load(None, ratios))
    wide, high = 16 * 2**0.5, 16 / 2**0.5
    expected = [[-wide, -high, wide - 1, high - 1], [-16, -16, 15, 15]]
    np.testing.assert_allclose(anchors[:2], expected)
    pyramid = ["FPN.FPN_ON", True, "FPN.MULTILEVEL_RPN", True]
    finest = rpn_anchor_levels(configuration.load(None, [*pyramid, *ratios[2:]]))[0]
    np.testing.assert_allclose(finest.cell[1], [-16, -16, 15, 15])


def test_anchors_are_on_the_levels_from_the_finest_to_the_coarsest():
    levels = ["FPN.RPN_MIN_LEVEL", 3, "FPN.RPN_MAX_LEVEL", 5]
    config = configuration.load(None, ["FPN.FPN_ON", True, "FPN.MULTILEVEL_RPN", True, *levels])
    assert list(pyramid_levels(config)) == [3, 4, 5]
    for made in (rpn_anchor_levels(config), retinanet_anchor_levels(config)):
        assert [level.suffix for level in made] == ["_fpn3", "_fpn4", "_fpn5"]
        assert [level.stride for level in made] == [8, 16, 32]
