"""What the kernels compute, as a PyTorch user would write it: the baseline, in float64 the truth.

Shapes are those of the operators; every function is differentiable in its floating-point inputs.
"""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch.nn import functional


def balanced_l1(difference, alpha: float, gamma: float, beta: float):
    """The continuous formula of balanced L1, element by element."""
    x = difference.abs()
    b = math.exp(gamma / alpha) - 1
    inlier = alpha / b * (b * x + beta) * torch.log(b * x / beta + 1) - alpha * x
    return torch.where(x < beta, inlier, gamma * x + beta * (gamma / b - alpha))


def balanced_l1_loss(prediction, target, inside, outside, *, formula, factor: float):
    """factor * sum of outside * balanced_l1(inside * (prediction - target))."""
    return factor * (outside * balanced_l1(inside * (prediction - target), *formula)).sum()


def select_balanced_l1_loss(prediction, target, places, fg_num, *, formula, scale: float):
    """Balanced L1 of the four channels at places (M, 4), over max(fg_num, 1)."""
    n, c, y, x = places.long().unbind(1)
    channels = c[:, None] + torch.arange(4, device=c.device)
    selected = prediction[n[:, None], channels, y[:, None], x[:, None]]
    return scale / fg_num.clamp(min=1) * balanced_l1(selected - target, *formula).sum()


def weighted_sigmoid_focal_loss(
    logits, labels, weights, fg_num, *, gamma: float, alpha: float, scale: float
):
    """Focal loss of logits (N, A * K, H, W) given labels and weights (N, A, H, W)."""
    n, anchors, height, width = labels.shape
    logits = logits.reshape(n, anchors, -1, height, width)
    classes = torch.arange(1, logits.shape[2] + 1, device=labels.device).reshape(-1, 1, 1)
    target = (labels[:, :, None] == classes).to(logits.dtype)
    p = logits.sigmoid()
    missed = (1 - p) * target + p * (1 - target)
    balance = alpha * target + (1 - alpha) * (1 - target)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    counted = weights * (labels != -1).to(weights.dtype)
    losses = counted[:, :, None] * balance * missed**gamma * entropy
    return scale / fg_num.clamp(min=1) * losses.sum()


def _resized(x, size: Sequence[int], pool: bool):
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if pool:
        return functional.adaptive_max_pool2d(x, size)
    return functional.interpolate(x, size=size, mode="nearest")


def pyramid_gather(*levels, refine: int):
    """The mean of all levels at the size of one: finer ones pooled, coarser ones resized."""
    size = tuple(levels[refine].shape[2:])
    return sum(_resized(level, size, i < refine) for i, level in enumerate(levels)) / len(levels)


def pyramid_scatter(balanced, *levels, refine: int):
    """Every level plus `balanced` at its size: resized to finer ones, pooled to coarser ones."""
    return [
        level + _resized(balanced, tuple(level.shape[2:]), i > refine)
        for i, level in enumerate(levels)
    ]


def attention(theta, phi, g, *, scale: float):
    """softmax(scale * theta^T phi) g over the positions of (N, C, H, W) maps."""
    n, channels, height, width = theta.shape
    theta, phi, g = (x.reshape(n, channels, -1) for x in (theta, phi, g))
    weights = (scale * theta.transpose(1, 2) @ phi).softmax(dim=2)
    return (g @ weights.transpose(1, 2)).reshape(n, channels, height, width)
