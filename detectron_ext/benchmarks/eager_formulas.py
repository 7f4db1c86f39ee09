"""Detectron's and Libra R-CNN's operators as a PyTorch user would write them.

Each is the plain composition of tensor operations, differentiated by autograd, that the native
operators are timed against. They run on any device and know no Caffe2. Shapes and arguments are
those of the operators' front-ends (`detectron_ext.ops`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def smooth_l1_penalty(difference, beta):
    """Smooth L1 of |difference| (Fast R-CNN, equation 3, with the bend at beta)."""
    return torch.where(
        difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta
    )


def balanced_l1_penalty(difference, alpha=0.5, gamma=1.5, beta=1.0):
    """Balanced L1 of |difference|, continuous for every beta (Libra R-CNN, section 3.3)."""
    b = math.exp(gamma / alpha) - 1
    inlier = alpha / b * (b * difference + beta) * torch.log(b * difference / beta + 1)
    return torch.where(
        difference < beta,
        inlier - alpha * difference,
        gamma * difference + beta * (gamma / b - alpha),
    )


def dense_loss(penalty, y_hat, y, alpha_in, alpha_out):
    """A penalty of weighted differences, averaged over the rows."""
    difference = torch.abs(alpha_in * (y_hat - y))
    return (alpha_out * penalty(difference)).sum() / len(y)


def select_loss(penalty, y_hat, y, locations, fg_num):
    """A penalty at the places (n, c..c+3, y, x) of a map of predictions."""
    image, channel, row, column = locations.long().unbind(1)
    channels = channel[:, None] + torch.arange(4, device=y.device)
    predicted = y_hat[image[:, None], channels, row[:, None], column[:, None]]
    return penalty(torch.abs(predicted - y)).sum() / fg_num.clamp(min=1).squeeze()


def sigmoid_focal_loss(logits, labels, fg_num, weights=None, *, num_classes, gamma=2.0, alpha=0.25):
    """Focal loss of A * num_classes sigmoids; labels below 0 do not count."""
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


def softmax_focal_loss(logits, labels, fg_num, *, num_classes, gamma=2.0, alpha=0.25):
    """Focal loss of one softmax an anchor; labels below 0 are ignored, 0 is the background."""
    images, anchors, height, width = labels.shape
    logits = logits.view(images, anchors, num_classes, height, width)
    index = labels.long().clamp(min=0)[:, :, None]
    log_likely = torch.log_softmax(logits, 2).gather(2, index)[:, :, 0]
    foreground = (labels > 0).to(logits.dtype)
    balance = alpha * foreground + (1 - alpha) * (1 - foreground)
    loss = -balance * (1 - log_likely.exp()) ** gamma * log_likely
    return (loss * (labels >= 0)).sum() / fg_num.clamp(min=1).squeeze()


def sigmoid_cross_entropy_loss(logits, labels):
    """Mean binary cross-entropy over the labels that are not -1."""
    counted = labels >= 0
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return (loss * counted).sum() / counted.sum().clamp(min=1)


def group_spatial_softmax(x, num_classes):
    """A softmax over each group of num_classes channels."""
    n, channels, height, width = x.shape
    groups = x.view(n, channels // num_classes, num_classes, height, width)
    return torch.softmax(groups, 2).view_as(x)


def resize(x, size, finer):
    """Adaptive max pooling from a finer map, nearest resizing from a coarser one."""
    if x.shape[2:] == size:
        return x
    return F.adaptive_max_pool2d(x, size) if finer else F.interpolate(x, size, mode="nearest")


def balanced_pyramid_gather(levels, refine_level):
    """Mean of the levels at the size of one of them."""
    size = levels[refine_level].shape[2:]
    return sum(resize(x, size, i < refine_level) for i, x in enumerate(levels)) / len(levels)


def balanced_pyramid_scatter(balanced, levels, refine_level):
    """Every level plus the balanced map at its size."""
    return [x + resize(balanced, x.shape[2:], i > refine_level) for i, x in enumerate(levels)]


def embedded_gaussian_attention(theta, phi, g):
    """softmax(theta^T phi) g over all positions (Wang et al., CVPR 2018)."""
    theta, phi, values = (x.flatten(2) for x in (theta, phi, g))
    affinity = torch.softmax(torch.matmul(theta.transpose(1, 2), phi), dim=-1)
    attended = torch.matmul(affinity, values.transpose(1, 2))
    return attended.transpose(1, 2).reshape(g.shape)


def non_local_block(x, weights):
    """The non-local block of the balanced pyramid: weights are theta, phi, g and out, each
    (kernel, bias)."""
    theta, phi, g = (F.conv2d(x, *weights[name]) for name in ("theta", "phi", "g"))
    return x + F.conv2d(embedded_gaussian_attention(theta, phi, g), *weights["out"])


def roi_pool(x, rois, size, spatial_scale):
    """RoI max pooling (Fast R-CNN, section 2.1)."""
    pooled = []
    for roi in rois.tolist():
        left, top, right, bottom = (int(math.floor(v * spatial_scale + 0.5)) for v in roi[1:])
        window = x[int(roi[0]), :, top : max(bottom, top) + 1, left : max(right, left) + 1]
        pooled.append(F.adaptive_max_pool2d(window, size))
    return torch.stack(pooled)


def ps_roi_pool(x, rois, group_size, spatial_scale):
    """Position-sensitive RoI average pooling (Dai et al., R-FCN), through an integral image."""
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
    # [roi, row of bins, column of bins]: four corners of each bin, then the bin's own channels.
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


def roi_align(x, rois, size, spatial_scale, sampling_ratio):
    """RoIAlign (He et al., Mask R-CNN, section 3): bilinear samples, averaged over each bin."""
    height, width = x.shape[2:]
    samples = size * sampling_ratio
    low, high = rois[:, 1:3] * spatial_scale, rois[:, 3:] * spatial_scale
    steps = (torch.arange(samples, device=x.device) + 0.5) / samples
    places = low[:, None] + (high - low).clamp(min=1)[:, None] * steps[None, :, None]
    # grid_sample takes places from -1 to 1, pixel centres at halves.
    extent = torch.tensor([width, height], device=x.device)
    columns, rows = ((2 * places + 1) / extent - 1).unbind(2)
    grid = torch.stack(
        (columns[:, None, :].expand(-1, samples, -1), rows[:, :, None].expand(-1, -1, samples)), 3
    )
    maps = x[rois[:, 0].long()]
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, sampling_ratio)
