"""Convolution and its gradients as sums of float64 numpy, whatever the layout of the filter."""

from __future__ import annotations

import numpy as np


def taps(x, filters, pads, stride, dilation, out):
    """Yield, for every tap of the filter, its index and the slice of padded x that it meets."""
    for i in range(filters.shape[2]):
        for j in range(filters.shape[3]):
            yield (
                (i, j),
                (
                    slice(None),
                    slice(None),
                    slice(i * dilation, i * dilation + stride * (out[0] - 1) + 1, stride),
                    slice(j * dilation, j * dilation + stride * (out[1] - 1) + 1, stride),
                ),
            )


def convolve(x, filters, bias, d_y, pads=(0, 0, 0, 0), stride=1, dilation=1, group=1):
    """Return y, d_x, d_filter and d_bias in float64; pads are top, left, bottom, right."""
    x, filters = x.astype(np.float64), filters.astype(np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    out = [
        (padded.shape[axis] - dilation * (filters.shape[axis] - 1) - 1) // stride + 1
        for axis in (2, 3)
    ]
    y = np.zeros((len(x), len(filters), *out))
    d_padded, d_filter = np.zeros_like(padded), np.zeros_like(filters)
    ins, outs = filters.shape[1], len(filters) // group
    for g in range(group):
        i, o = slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)
        for (r, c), window in taps(x, filters, pads, stride, dilation, out):
            part = padded[:, i][window]
            y[:, o] += np.einsum("nchw,oc->nohw", part, filters[o, :, r, c])
            if d_y is not None:
                d_filter[o, :, r, c] = np.einsum("nchw,nohw->oc", part, d_y[:, o])
                d_padded[:, i][window] += np.einsum("nohw,oc->nchw", d_y[:, o], filters[o, :, r, c])
    if bias is not None:
        y += bias[:, None, None]
    height, width = x.shape[2:]
    d_x = d_padded[:, :, pads[0] : pads[0] + height, pads[1] : pads[1] + width]
    return y, d_x, d_filter, None if d_y is None else d_y.sum(axis=(0, 2, 3))
