"""Depthwise convolutions of every small width and height, and of maps larger than the caches."""

from __future__ import annotations

import numpy as np
import pytest
from native_runner import needs_native
from test_depthwise_conv import check, each_window, made_up, run, same_pads

pytestmark = needs_native


@each_window
@pytest.mark.parametrize("height", [1, 6])
def test_every_width_equals_the_definition(height, kernel, stride):
    for width in range(1, 41):
        pads = same_pads((height, width), kernel, stride)
        tensors = made_up((2, 1 + width % 3, height, width), kernel, stride, pads)
        check(run(*tensors, stride, pads), *tensors, stride, pads)


@each_window
def test_every_height_and_padding_equals_the_definition(kernel, stride):
    for height in range(1, 20):
        pads = (height % 4, (height + 1) % 3, 4, 4)
        tensors = made_up((1, 3, height, 13), kernel, stride, pads)
        check(run(*tensors, stride, pads), *tensors, stride, pads)


@each_window
def test_large_tensors_get_the_bits_of_their_channels(kernel, stride):
    """Tensors above 8 MB are written past the caches, smaller ones are not."""
    shape = (2, 23, 227, 229)
    pads = same_pads(shape[2:], kernel, stride)
    x, filters, _, d_y = made_up(shape, kernel, stride, pads, with_bias=False)
    assert x.nbytes > 2**23
    whole = run(x, filters, None, d_y, stride, pads)
    for first in (0, 11, 20):
        part = slice(first, first + 3)
        tensors = x[:, part].copy(), filters[part], None, d_y[:, part].copy()
        alone = run(*tensors, stride, pads)
        for name in ("y", "d_x"):
            assert np.array_equal(whole[name][:, part], alone[name])
        assert np.array_equal(whole["d_filters"][part], alone["d_filters"])
    check(alone, *tensors, stride, pads)
