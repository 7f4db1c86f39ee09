"""Detectron's and Libra R-CNN's operators as a PyTorch user would write them.

Each formula composes tensor operations, which autograd differentiates. `detectron_ext.benchmarks`
compares the native operators with the formulas, and `detectron_ext.kernel_benchmark` the CUDA
kernels: their times, and their errors with the formulas in float64. The formulas run on any device
and do not need Caffe2. Shapes and arguments are those of the operators' front-ends
(docs/operators.md).
"""

from __future__ import annotations

import math
from typing import Callable, Sequence

import torch
import torch.nn.functional as F

Penalty = Callable[[torch.Tensor], torch.Tensor]


def smooth_l1_penalty(difference: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """Return smooth L1 of |difference| (Fast R-CNN, equation 3, with the bend at beta)."""
    return torch.where(
        difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta
    )


def balanced_l1_penalty(
    difference: torch.Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0
) -> torch.Tensor:
    """Return balanced L1 of |difference| by the continuous formula (Libra R-CNN, section 3.3).

    Args:
        difference: absolute differences, of any shape.
        alpha: factor of an inlier's gradient.
        gamma: gradient of an outlier.
        beta: absolute difference that separates inliers from outliers.
    """
    b = math.exp(gamma / alpha) - 1
    inlier = alpha / b * (b * difference + beta) * torch.log(b * difference / beta + 1)
    return torch.where(
        difference < beta,
        inlier - alpha * difference,
        gamma * difference + beta * (gamma / b - alpha),
    )


def dense_loss(
    penalty: Penalty,
    y_hat: torch.Tensor,
    y: torch.Tensor,
    inside_weights: torch.Tensor,
    outside_weights: torch.Tensor,
) -> torch.Tensor:
    """Return a penalty of weighted differences, averaged over the rows: a scalar.

    Args:
        penalty: a function of absolute differences.
        y_hat: predictions, (N, D...).
        y: targets, shaped as y_hat.
        inside_weights: weights of the differences, shaped as y_hat.
        outside_weights: weights of the penalties, shaped as y_hat.
    """
    difference = torch.abs(inside_weights * (y_hat - y))
    return (outside_weights * penalty(difference)).sum() / len(y)


def select_loss(
    penalty: Penalty,
    y_hat: torch.Tensor,
    y: torch.Tensor,
    locations: torch.Tensor,
    fg_num: torch.Tensor,
) -> torch.Tensor:
    """Return a penalty at selected places of a map of predictions: a scalar.

    Args:
        penalty: a function of absolute differences.
        y_hat: predictions, (N, A * 4, H, W).
        y: targets, (M, 4).
        locations: (M, 4) rows (n, c, y, x), which select channels c to c + 3.
        fg_num: number of foreground anchors, one element; the sum is divided by max(fg_num, 1).
    """
    image, channel, row, column = locations.long().unbind(1)
    channels = channel[:, None] + torch.arange(4, device=y.device)
    predicted = y_hat[image[:, None], channels, row[:, None], column[:, None]]
    return penalty(torch.abs(predicted - y)).sum() / fg_num.clamp(min=1).squeeze()


def sigmoid_focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    fg_num: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    num_classes: int,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> torch.Tensor:
    """Return the focal loss of A * num_classes sigmoids: a scalar.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W) int32; anchors with labels below 0 are ignored.
        fg_num: number of foreground anchors, one element; the sum is divided by max(fg_num, 1).
        weights: factors of the anchors' terms, shaped as labels. None means that all are 1.
        num_classes: classes of an anchor without the background.
        gamma: focusing exponent.
        alpha: weight of the foreground.
    """
    images, anchors, height, width = labels.shape
    logits = logits.view(images, anchors, num_classes, height, width)
    classes = torch.arange(1, num_classes + 1, device=logits.device).view(1, 1, -1, 1, 1)
    target = (labels[:, :, None] == classes).to(logits.dtype)
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    likely = probability * target + (1 - probability) * (1 - target)
    balance = alpha * target + (1 - alpha) * (1 - target)
    loss = balance * (1 - likely) ** gamma * entropy
    counted = (labels[:, :, None] >= 0).to(logits.dtype)
    if weights is not None:
        counted = counted * weights[:, :, None]
    return (loss * counted).sum() / fg_num.clamp(min=1).squeeze()


def softmax_focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    fg_num: torch.Tensor,
    *,
    num_classes: int,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> torch.Tensor:
    """Return the focal loss of one softmax for each anchor: a scalar.

    Args:
        logits: (N, A * num_classes, H, W).
        labels: (N, A, H, W) int32; 0 is the background, and anchors below 0 are ignored.
        fg_num: number of foreground anchors, one element; the sum is divided by max(fg_num, 1).
        num_classes: classes of an anchor, including the background.
        gamma: focusing exponent.
        alpha: weight of the foreground.
    """
    images, anchors, height, width = labels.shape
    logits = logits.view(images, anchors, num_classes, height, width)
    index = labels.long().clamp(min=0)[:, :, None]
    log_likely = torch.log_softmax(logits, 2).gather(2, index)[:, :, 0]
    foreground = (labels > 0).to(logits.dtype)
    balance = alpha * foreground + (1 - alpha) * (1 - foreground)
    loss = -balance * (1 - log_likely.exp()) ** gamma * log_likely
    return (loss * (labels >= 0)).sum() / fg_num.clamp(min=1).squeeze()


def sigmoid_cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy over the labels that are not -1."""
    counted = labels >= 0
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return (loss * counted).sum() / counted.sum().clamp(min=1)


def group_spatial_softmax(x: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return a softmax over each group of num_classes channels."""
    n, channels, height, width = x.shape
    groups = x.view(n, channels // num_classes, num_classes, height, width)
    return torch.softmax(groups, 2).view_as(x)


def resize(x: torch.Tensor, size: Sequence[int], finer: bool) -> torch.Tensor:
    """Return x at another size: adaptive-max-pooled if x is finer, else nearest-resized."""
    if x.shape[2:] == size:
        return x
    return F.adaptive_max_pool2d(x, size) if finer else F.interpolate(x, size, mode="nearest")


def balanced_pyramid_gather(levels: Sequence[torch.Tensor], refine_level: int) -> torch.Tensor:
    """Return the mean of the levels at the size of one of them."""
    size = levels[refine_level].shape[2:]
    total = sum(resize(x, size, i < refine_level) for i, x in enumerate(levels))
    return torch.as_tensor(total) / len(levels)


def balanced_pyramid_scatter(
    balanced: torch.Tensor, levels: Sequence[torch.Tensor], refine_level: int
) -> list[torch.Tensor]:
    """Return every level plus the balanced map at its size."""
    return [x + resize(balanced, x.shape[2:], i > refine_level) for i, x in enumerate(levels)]


def embedded_gaussian_attention(
    theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Return softmax(scale * theta^T phi) g over all positions (Wang et al., CVPR 2018).

    Args:
        theta: (N, C, H, W).
        phi: shaped as theta.
        g: shaped as theta.
        scale: factor of the products before the softmax. None means 1.
    """
    theta, phi, values = (x.flatten(2) for x in (theta, phi, g))
    queries = theta.transpose(1, 2)
    if scale is not None:
        queries = scale * queries
    affinity = torch.softmax(torch.matmul(queries, phi), dim=-1)
    attended = torch.matmul(affinity, values.transpose(1, 2))
    return attended.transpose(1, 2).reshape(g.shape)


def non_local_block(
    x: torch.Tensor, weights: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Return the balanced pyramid's non-local block of x, (N, C, H, W).

    `weights` holds the filters and the biases of the 1x1 convolutions theta, phi, g and out.
    """
    theta, phi, g = (F.conv2d(x, *weights[name]) for name in ("theta", "phi", "g"))
    return x + F.conv2d(embedded_gaussian_attention(theta, phi, g), *weights["out"])


def roi_pool(
    x: torch.Tensor, rois: torch.Tensor, size: tuple[int, int], spatial_scale: float
) -> torch.Tensor:
    """Return the maxima of the bins of regions (Fast R-CNN, section 2.1).

    Args:
        x: (N, C, H, W).
        rois: (R, 5) rows (image, x1, y1, x2, y2), in pixels.
        size: number of bins from top to bottom, and from left to right.
        spatial_scale: cells of x per pixel.
    """
    pooled = []
    for roi in rois.tolist():
        left, top, right, bottom = (int(math.floor(v * spatial_scale + 0.5)) for v in roi[1:])
        window = x[int(roi[0]), :, top : max(bottom, top) + 1, left : max(right, left) + 1]
        pooled.append(F.adaptive_max_pool2d(window, size))
    return torch.stack(pooled)


def ps_roi_pool(
    x: torch.Tensor, rois: torch.Tensor, group_size: int, spatial_scale: float
) -> torch.Tensor:
    """Return the position-sensitive means of regions (R-FCN, section 2), by an integral image.

    Args:
        x: (N, C * group_size^2, H, W).
        rois: (R, 5) rows (image, x1, y1, x2, y2), in pixels.
        group_size: number of bins in each direction.
        spatial_scale: cells of x per pixel.
    """
    height, width = x.shape[2:]
    integral = F.pad(x.cumsum(2).cumsum(3), (1, 0, 1, 0)).permute(0, 2, 3, 1)
    image = rois[:, 0].long()
    corners = torch.floor(rois[:, 1:] + 0.5)
    low, high = corners[:, :2] * spatial_scale, (corners[:, 2:] + 1) * spatial_scale
    step = (high - low).clamp(min=0.1) / group_size
    bins = torch.arange(group_size, device=x.device).view(1, -1, 1)
    limit = torch.tensor([width, height], device=x.device)
    begin = torch.minimum(torch.floor(bins * step[:, None] + low[:, None]).clamp(min=0), limit)
    end = torch.minimum(torch.ceil((bins + 1) * step[:, None] + low[:, None]).clamp(min=0), limit)
    (left, top), (right, bottom) = begin.long().unbind(2), end.long().unbind(2)
    channels = x.shape[1] // group_size**2
    # Corners of all bins: [region, row of bins, column of bins]. A sum reads a bin's own channels.
    image, rows, columns = image[:, None, None], (top, bottom), (left, right)

    def sums(row, column):
        values = integral[image, row[:, :, None], column[:, None, :]]
        values = values.unflatten(3, (channels, group_size, group_size))
        return torch.einsum("rijcij->rcij", values)

    total = (
        sums(rows[1], columns[1]) - sums(rows[0], columns[1])
        - sums(rows[1], columns[0]) + sums(rows[0], columns[0])
    )  # fmt: skip
    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    return total * (area > 0)[:, None] / area.clamp(min=1)[:, None]


def roi_align(
    x: torch.Tensor, rois: torch.Tensor, size: int, spatial_scale: float, sampling_ratio: int
) -> torch.Tensor:
    """Return RoIAlign (Mask R-CNN, section 3): bilinear samples, averaged over each bin.

    Args:
        x: (N, C, H, W).
        rois: (R, 5) rows (image, x1, y1, x2, y2), in pixels.
        size: number of bins in each direction.
        spatial_scale: cells of x per pixel.
        sampling_ratio: samples of a bin in each direction.
    """
    height, width = x.shape[2:]
    samples = size * sampling_ratio
    low, high = rois[:, 1:3] * spatial_scale, rois[:, 3:] * spatial_scale
    steps = (torch.arange(samples, device=x.device) + 0.5) / samples
    places = low[:, None] + (high - low).clamp(min=1)[:, None] * steps[None, :, None]
    # grid_sample takes places from -1 to 1. A pixel has its centre half a pixel from its edges.
    extent = torch.tensor([width, height], device=x.device)
    columns, rows = ((2 * places + 1) / extent - 1).unbind(2)
    grid = torch.stack(
        (columns[:, None, :].expand(-1, samples, -1), rows[:, :, None].expand(-1, -1, samples)), 3
    )
    maps = x[rois[:, 0].long()]
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, sampling_ratio)
