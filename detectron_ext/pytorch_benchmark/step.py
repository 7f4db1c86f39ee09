"""Times a training step in PyTorch: forward, losses, backward and update."""

from __future__ import annotations

import time

import torch
from torch.nn import functional

from detectron_ext.pytorch_benchmark.network import RetinaNet, Shape
from detectron_ext.pytorch_benchmark.summary import summary

_WARM_UP_STEPS = 3
_ALPHA, _BETA = 0.25, 0.11
_POSITIVES = 30


def benchmark_pytorch_step(
    shape: Shape, size: int, batch: int, steps: int, threads: int, channels_last: bool
) -> dict:
    """Time steps of RetinaNet on random images and targets.

    Args:
        shape: the network.
        size: height and width of the images in pixels, a multiple of 32.
        batch: images per step.
        steps: timed steps, after a few that are not timed.
        threads: CPU threads; 0 keeps PyTorch's number.
        channels_last: use PyTorch's memory format channels_last.

    Returns:
        As `detectron_ext.benchmarks.training_step.benchmark_step`, and the version of PyTorch.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    order = torch.channels_last if channels_last else torch.contiguous_format
    network = RetinaNet(shape)
    network.to(memory_format=order)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, size, size).mul_(0.4).contiguous(memory_format=order)
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-5, momentum=0.9, weight_decay=1e-4)
    with torch.no_grad():
        targets = [_targets(classes, deltas) for classes, deltas in network(images)]
    seconds = []
    for _ in range(_WARM_UP_STEPS + steps):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        levels = zip(network(images), targets)
        loss = torch.stack([_loss(predicted, target) for predicted, target in levels]).sum()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return summary(seconds[_WARM_UP_STEPS:], size, torch.__version__)


def _targets(classes: torch.Tensor, deltas: torch.Tensor) -> tuple:
    """Return class labels, box targets and weights: few anchors are positive."""
    labels = (torch.rand_like(classes) < 1e-4).float()
    return labels, torch.randn_like(deltas), (torch.rand_like(deltas) < 2e-3).float()


def _loss(predicted: tuple, target: tuple) -> torch.Tensor:
    """Return the focal loss (Lin et al., ICCV 2017, eq. 5) plus the smooth L1 loss of a level."""
    (logits, deltas), (labels, box_targets, weights) = predicted, target
    entropy = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    missing = 1 - torch.exp(-entropy)  # 1 - p of the right answer
    alpha = _ALPHA * labels + (1 - _ALPHA) * (1 - labels)
    boxes = functional.smooth_l1_loss(deltas, box_targets, beta=_BETA, reduction="none")
    return ((alpha * missing**2 * entropy).sum() + (boxes * weights).sum()) / _POSITIVES
