"""The balanced feature pyramid's two ends (Libra R-CNN, section 3.2).

All tensors are float32, NCHW. Levels are given finest first and share N and C. Sizes need not
divide one another: levels are brought to another's size by adaptive max pooling or by nearest
resizing, with PyTorch's index rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2.python import core

from detectron_ext.ops.frontend import add_operator, require_levels


def balanced_pyramid_gather(
    net: core.Net, levels: Sequence[Any], output: Any, refine_level: int
) -> core.BlobReference:
    """Add BalancedPyramidGather: the mean of all levels at the size of one of them.

    Args:
        levels: F_0 ... F_{n-1}, (N, C, H_i, W_i), 2 to 8 of them. Those before `refine_level` are
            adaptive-max-pooled, those after it nearest-resized.
        output: name of the mean.
        refine_level: index into `levels` of the level whose size the mean has.

    Returns:
        The mean, (N, C, H_r, W_r).

    Raises:
        ValueError: too few or too many levels, or `refine_level` is not an index of one.
    """
    require_levels(levels, refine_level)
    return add_operator(net, "BalancedPyramidGather", levels, [output], refine_level=refine_level)


def balanced_pyramid_scatter(
    net: core.Net,
    balanced: Any,
    levels: Sequence[Any],
    outputs: Sequence[Any],
    refine_level: int,
) -> tuple[core.BlobReference, ...]:
    """Add BalancedPyramidScatter: every level plus the balanced map, brought to its size.

    Args:
        balanced: B (N, C, H_r, W_r), nearest-resized for the levels before `refine_level`,
            adaptive-max-pooled for those after it.
        levels: F_0 ... F_{n-1}, (N, C, H_i, W_i), 2 to 8 of them.
        outputs: names of the n results. In training not all of them need to lead to the loss.
        refine_level: index into `levels` of the level whose size B has.

    Returns:
        The n results, shaped as the levels.

    Raises:
        ValueError: too few or too many levels, `refine_level` is not an index of one, or the
            number of outputs is not that of levels.
    """
    require_levels(levels, refine_level)
    if len(outputs) != len(levels):
        raise ValueError(f"outputs must be {len(levels)} names, one a level, not {len(outputs)}")
    return add_operator(
        net,
        "BalancedPyramidScatter",
        [balanced, *levels],
        outputs,
        refine_level=refine_level,
    )
