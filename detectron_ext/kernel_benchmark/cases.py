"""A case for each kernel: inputs, our forward and backward pass, and the formula in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable, Sequence

import torch

from detectron_ext.benchmarks import pytorch_formulas as formulas
from detectron_ext.kernel_benchmark.kernels import Kernels

Tensors = Sequence[torch.Tensor]

_L1 = {"alpha": 0.5, "gamma": 1.5, "beta": 0.11}
_FOCAL = {"gamma": 2.0, "alpha": 0.25}
_SCALE = 1.0
_CONTINUOUS = 0
_REFINE = 1  # P4 of P3 ... P7


@dataclass
class Sizes:
    """The sizes of the cases.

    Attributes:
        boxes: rows of the dense loss.
        images: batch size of maps.
        anchors: anchors at a position.
        classes: classes of an anchor.
        selected: rows of the select loss.
        channels: channels of the pyramid's maps.
        pyramid: heights and widths of the levels, finest first.
        attention_images: batch size of attention.
        attention_map: height and width of attention's maps.
    """

    boxes: int
    images: int
    anchors: int
    classes: int
    selected: int
    channels: int
    pyramid: Sequence[Sequence[int]]
    attention_images: int
    attention_map: Sequence[int]


_PYRAMID = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))  # P3 to P7 of 800 x 1344 pixels
SIZES = {
    "small": Sizes(1 << 20, 2, 9, 80, 400, 256, _PYRAMID, 1, (50, 84)),
    "large": Sizes(1 << 25, 24, 9, 80, 20000, 256, _PYRAMID, 8, (50, 84)),
}


@dataclass
class Case:
    """What is checked and timed.

    Attributes:
        name: the kernel's name in the table.
        shape: the size, as the table shows it.
        inputs: the formula's inputs.
        differentiable: indices of the inputs that have a gradient.
        formula: computes the outputs from the inputs, in PyTorch.
        forward: runs our forward pass, which writes `outputs`.
        backward: runs our backward pass, which writes `gradients`.
        outputs: the outputs, in the formula's order.
        gradients: the gradients of the differentiable inputs, in their order.
        d_outputs: the gradients of the outputs.
        forward_bytes: the size of all numbers that the forward pass must read or write.
        backward_bytes: the same for the backward pass.
        forward_flops: operations of the matrix products, 0 where there are none.
        backward_flops: the same for the backward pass.
    """

    name: str
    shape: str
    inputs: Tensors
    differentiable: Sequence[int]
    formula: Callable[..., Tensors]
    forward: Callable[[], None]
    backward: Callable[[], None]
    outputs: Tensors
    gradients: Tensors
    d_outputs: Tensors
    forward_bytes: int
    backward_bytes: int
    forward_flops: int = 0
    backward_flops: int = 0


class Maker:
    """Makes the inputs of cases. They are random, but the same every time.

    Args:
        kernels: the library that the cases call.
        device: the device of the tensors, "cuda" or "cpu".
        sizes: the sizes of the cases.
    """

    def __init__(self, kernels: Kernels, device: str, sizes: Sizes) -> None:
        self.kernels = kernels
        self.device = device
        self.sizes = sizes
        self._generator = torch.Generator(device)
        self._generator.manual_seed(0)

    def normal(self, *shape: int, deviation: float = 1.0) -> torch.Tensor:
        """Return normally distributed numbers with mean 0."""
        made = torch.randn(shape, generator=self._generator, device=self.device)
        return made.mul_(deviation)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Return integers in [low, high)."""
        return torch.randint(low, high, shape, generator=self._generator, device=self.device)

    def number(self, value: float) -> torch.Tensor:
        """Return one number, as a tensor of one element."""
        return torch.full((1,), float(value), device=self.device)

    def memory(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Return uninitialised working memory of `count` elements, at least one."""
        return torch.empty(max(count, 1), dtype=dtype, device=self.device)

    def partial_sums(self) -> torch.Tensor:
        """Return the working memory of the losses."""
        return self.memory(self.kernels.size("loss_partial_sums"), torch.float64)


def _bytes(*groups: Tensors) -> int:
    """Return the size of all tensors, in bytes."""
    return sum(t.numel() * t.element_size() for group in groups for t in group)


def _penalty(difference: torch.Tensor) -> torch.Tensor:
    return formulas.balanced_l1_penalty(difference, **_L1)


def _weighted_focal(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    fg_num: torch.Tensor,
    *,
    num_classes: int,
) -> Tensors:
    loss = formulas.sigmoid_focal_loss(
        logits, labels, fg_num, weights, num_classes=num_classes, **_FOCAL
    )
    return [loss.reshape(1)]


def balanced_l1(make: Maker) -> Case:
    """BalancedL1Loss and its gradient, on boxes (N, 4)."""
    size = (make.sizes.boxes, 4)
    prediction, target = make.normal(*size), make.normal(*size)
    inside = make.integers(0, 2, *size).float()
    outside = make.normal(*size).abs_()
    inputs = [prediction, target, inside, outside]
    loss, gradient, d_loss = make.number(0), torch.empty_like(prediction), make.number(1.7)
    arguments = [*_L1.values(), _CONTINUOUS, prediction.numel(), *inputs, 1 / len(prediction)]
    sums = make.partial_sums()
    return Case(
        "balanced_l1", "{} x 4".format(*size), inputs, [0],
        lambda *x: [formulas.dense_loss(_penalty, *x).reshape(1)],
        partial(make.kernels, "balanced_l1_loss", *arguments, sums, loss),
        partial(make.kernels, "balanced_l1_gradient", *arguments, d_loss, gradient),
        [loss], [gradient], [d_loss],
        _bytes(inputs), _bytes(inputs, [gradient]),
    )  # fmt: skip


def select_balanced_l1(make: Maker) -> Case:
    """SelectBalancedL1Loss and its gradient, on the map of the finest level."""
    sizes = make.sizes
    shape = (sizes.images, 4 * sizes.anchors, *sizes.pyramid[0])
    prediction, target = make.normal(*shape), make.normal(sizes.selected, 4)
    # As in training, no place is selected twice.
    anchors = sizes.images * sizes.anchors * shape[2] * shape[3]
    chosen = torch.randperm(anchors, generator=make._generator, device=make.device)
    place, x = _divmod(chosen[: sizes.selected], shape[3])
    place, y = _divmod(place, shape[2])
    n, anchor = _divmod(place, sizes.anchors)
    places = torch.stack([n, 4 * anchor, y, x], 1).float()
    fg_num = make.number(sizes.selected)
    loss, gradient, d_loss = make.number(0), torch.empty_like(prediction), make.number(1.7)
    selection = [shape, prediction, len(places), target, places, fg_num, None]
    arguments = [*_L1.values(), _CONTINUOUS, *selection, _SCALE]
    sums = make.partial_sums()
    scratch = make.memory(make.kernels.size("select_scratch", len(places)), torch.int32)
    return Case(
        "select_balanced_l1", f"{sizes.selected} of {tuple(shape)}",
        [prediction, target, places, fg_num], [0],
        lambda *x: [formulas.select_loss(_penalty, *x).reshape(1)],
        partial(make.kernels, "select_balanced_l1_loss", *arguments, sums, loss),
        partial(make.kernels, "select_balanced_l1_gradient", *arguments, d_loss, gradient, scratch),
        [loss], [gradient], [d_loss],
        _bytes([target, target, places]), _bytes([target, target, places, gradient]),
    )  # fmt: skip


def _divmod(numbers: torch.Tensor, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return quotient and remainder; older PyTorches have no function for both."""
    quotient = torch.div(numbers, by, rounding_mode="floor")
    return quotient, numbers - quotient * by


def weighted_sigmoid_focal(make: Maker) -> Case:
    """WeightedSigmoidFocalLoss and its gradient, on the map of the finest level."""
    sizes = make.sizes
    height, width = sizes.pyramid[0]
    logits = make.normal(sizes.images, sizes.anchors * sizes.classes, height, width, deviation=3)
    label_shape = (sizes.images, sizes.anchors, height, width)
    # A hundredth of the anchors are positive. Another hundredth are ignored.
    kinds = make.integers(0, 100, *label_shape)
    labels = make.integers(1, sizes.classes + 1, *label_shape)
    labels = (labels * (kinds == 0) - (kinds == 1).long()).int()
    weights = make.normal(*label_shape).abs_()
    fg_num = make.number(max(1, int((labels > 0).sum())))
    loss, gradient, d_loss = make.number(0), torch.empty_like(logits), make.number(1.7)
    inputs = [logits, labels, weights, fg_num]
    counts = [sizes.images * sizes.anchors, sizes.classes, height * width]
    arguments = [*counts, *inputs, *_FOCAL.values(), _SCALE]
    sums = make.partial_sums()
    return Case(
        "weighted_sigmoid_focal", str(tuple(logits.shape)), inputs, [0],
        partial(_weighted_focal, num_classes=sizes.classes),
        partial(make.kernels, "weighted_sigmoid_focal_loss", *arguments, sums, loss),
        partial(make.kernels, "weighted_sigmoid_focal_gradient", *arguments, d_loss, gradient),
        [loss], [gradient], [d_loss],
        _bytes(inputs), _bytes(inputs, [gradient]),
    )  # fmt: skip


def _pyramid(make: Maker) -> tuple:
    """Return random levels, and the pyramid as the kernels take it."""
    sizes = make.sizes
    levels = [make.normal(sizes.images, sizes.channels, *size) for size in sizes.pyramid]
    numbers = [side for size in sizes.pyramid for side in size]
    shape = [sizes.images * sizes.channels, len(levels), _REFINE, numbers]
    return levels, shape, f"{sizes.images} x {sizes.channels}, {len(levels)} levels"


def pyramid_gather(make: Maker) -> Case:
    """BalancedPyramidGather and its gradient."""
    levels, shape, text = _pyramid(make)
    places = make.memory(make.kernels.size("gather_places", *shape), torch.int32)
    gathered = torch.empty_like(levels[_REFINE])
    d_gathered = make.normal(*gathered.shape)
    gradients = [torch.empty_like(level) for level in levels]
    arguments = [*shape, levels, d_gathered, gradients, places]
    return Case(
        "pyramid_gather", text, levels, range(len(levels)),
        lambda *x: [formulas.balanced_pyramid_gather(x, _REFINE)],
        partial(make.kernels, "pyramid_gather", *shape, levels, gathered),
        partial(make.kernels, "pyramid_gather_gradient", *arguments),
        [gathered], gradients, [d_gathered],
        _bytes(levels, [gathered]), _bytes(levels[:_REFINE], [d_gathered], gradients),
    )  # fmt: skip


def pyramid_scatter(make: Maker) -> Case:
    """BalancedPyramidScatter and its gradient for the balanced level.

    The gradients of the other levels are copies of the gradients of the outputs.
    """
    levels, shape, text = _pyramid(make)
    balanced = make.normal(*levels[_REFINE].shape)
    scattered = [torch.empty_like(level) for level in levels]
    d_scattered = [make.normal(*level.shape) for level in levels]
    gradient = torch.empty_like(balanced)
    places = make.memory(make.kernels.size("scatter_places", *shape, d_scattered), torch.int32)
    arguments = [*shape, balanced, d_scattered, gradient, places]
    return Case(
        "pyramid_scatter", text, [balanced, *levels], [0],
        lambda balanced, *x: formulas.balanced_pyramid_scatter(balanced, x, _REFINE),
        partial(make.kernels, "pyramid_scatter", *shape, balanced, levels, scattered),
        partial(make.kernels, "pyramid_scatter_gradient", *arguments),
        scattered, [gradient], d_scattered,
        _bytes([balanced], levels, scattered), _bytes([balanced, gradient], d_scattered),
    )  # fmt: skip


def attention(make: Maker, products: int = 0, name: str = "attention") -> Case:
    """EmbeddedGaussianAttention and its gradient, with scaled products.

    Args:
        make: makes the inputs.
        products: 0 lets the operator choose for the GPU, 1 means float32, 2 means tensor cores.
        name: the case's name.
    """
    sizes = make.sizes
    shape = (sizes.attention_images, sizes.channels, *sizes.attention_map)
    theta, phi, g, d_out = (make.normal(*shape) for _ in range(4))
    out, *gradients = (torch.empty_like(g) for _ in range(4))
    positions = shape[2] * shape[3]
    log_sums = torch.empty((shape[0], positions), device=make.device)
    counts = [shape[0], shape[1], positions]
    scratch = make.memory(make.kernels.size("attention_scratch", *counts), torch.float32)
    scale = shape[1] ** -0.5
    arguments = [*counts, scale, products, theta, phi, g, out, log_sums]
    product = 2 * shape[0] * shape[1] * positions**2
    return Case(
        name, str(shape), [theta, phi, g], [0, 1, 2],
        lambda *x: [formulas.embedded_gaussian_attention(x[0], x[1], x[2], scale)],
        partial(make.kernels, "attention", *arguments, scratch),
        partial(make.kernels, "attention_gradient", *arguments, d_out, *gradients, scratch),
        [out], gradients, [d_out],
        _bytes([theta, phi, g, out]), _bytes([theta, phi, g, out, d_out], gradients),
        2 * product, 5 * product,
    )  # fmt: skip


CASES: dict[str, Callable[[Maker], Case]] = {
    "balanced_l1": balanced_l1,
    "select_balanced_l1": select_balanced_l1,
    "weighted_sigmoid_focal": weighted_sigmoid_focal,
    "pyramid_gather": pyramid_gather,
    "pyramid_scatter": pyramid_scatter,
    "attention": attention,
    "attention_float32": partial(attention, products=1, name="attention_float32"),
}
