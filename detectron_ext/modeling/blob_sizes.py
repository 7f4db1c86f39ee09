"""Shapes of a graph's blobs, found without running it.

Caffe2's own inference ends at the first operator that declares no rule, such as GroupNorm. Here a
blob whose operator has no rule is left out, so that sums over the shapes are lower limits.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from detectron_ext.modeling.model import DetectionModel

Shape = tuple  # of int
# Of an operator and the shapes of its inputs; returns those of its first outputs.
_Rule = Callable[[Any, Sequence[Shape]], Sequence[Shape]]


def parameter_shapes(model: DetectionModel) -> dict[str, Shape]:
    """Return the shapes of the blobs that ``param_init_net`` fills: parameters and momenta."""
    shapes: dict[str, Shape] = {}
    for operator in model.param_init_net.Proto().op:
        given = _arguments(operator).get("shape")
        if given is not None:
            shapes[operator.output[0]] = tuple(int(size) for size in given.ints)
        elif operator.input and operator.input[0] in shapes:
            shapes[operator.output[0]] = shapes[operator.input[0]]
    return shapes


def activation_shapes(model: DetectionModel, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of the outputs of the forward pass.

    Args:
        model: a model; only its first replica's blobs are found.
        inputs: shapes of the inputs, and of blobs whose size depends on the data, by full names.
    """
    shapes = {**parameter_shapes(model), **inputs}
    given = set(shapes)
    for operator in model.net.Proto().op:
        rule = _RULES.get(operator.type)
        if rule is None or any(name.endswith("_grad") for name in operator.output):
            continue
        if not operator.input or operator.input[0] not in shapes:
            continue
        known = [shapes[name] for name in operator.input if name in shapes]
        if len(known) < len(operator.input) and operator.type in _NEED_ALL:
            continue
        for name, shape in zip(operator.output, rule(operator, known)):
            shapes.setdefault(name, shape)
    return {name: shape for name, shape in shapes.items() if name not in given}


def _arguments(operator: Any) -> dict:
    return {argument.name: argument for argument in operator.arg}


def _window(operator: Any, shape: Shape, channels: int, kernel: int) -> list:
    """Return the output shape of a convolution or a pooling with symmetric or explicit padding."""
    given = {name: argument.i for name, argument in _arguments(operator).items()}
    stride = given.get("stride", 1) or 1
    reach = (given.get("dilation", 1) or 1) * (kernel - 1) + 1
    sides = []
    for side, before, after in zip(shape[2:], ("pad_t", "pad_l"), ("pad_b", "pad_r")):
        both = [given.get(name, given.get("pad", 0)) for name in (before, after)]
        sides.append(max(1, (side + sum(both) - reach) // stride + 1))
    return [(shape[0], channels, *sides)]


def _conv(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return _window(operator, shapes[0], shapes[1][0], shapes[1][2])


def _pool(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    arguments = _arguments(operator)
    return _window(operator, shapes[0], shapes[0][1], arguments["kernel"].i)


def _same(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return shapes[:1]


def _upsample(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    factor = _arguments(operator)["scale"].i
    count, channels, height, width = shapes[0]
    return [(count, channels, height * factor, width * factor)]


def _fully_connected(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [(shapes[0][0], shapes[1][0])]


def _refine_level(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    level = _arguments(operator)["refine_level"].i
    return [shapes[level]]


def _pool_regions(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    given = {name: argument.i for name, argument in _arguments(operator).items()}
    return [(shapes[1][0], shapes[0][1], given["pooled_h"], given["pooled_w"])]


def _concatenate(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    axis = _arguments(operator)["axis"].i if "axis" in _arguments(operator) else 1
    joined = list(shapes[0])
    joined[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(joined)]


def _scatter(operator: Any, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return shapes[1:]


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        (
            "AffineChannel", "AffineChannelClip", "BatchPermutation", "Clip", "GroupNorm",
            "NonLocalBlock", "Relu", "Sigmoid", "Softmax", "Sum",
        ),
        _same,
    ),
    "BalancedPyramidGather": _refine_level,
    "BalancedPyramidScatter": _scatter,
    "Concat": _concatenate,
    "Conv": _conv,
    "FC": _fully_connected,
    "MaxPool": _pool,
    "RoIAlign": _pool_regions,
    "RoIPoolF": _pool_regions,
    "UpsampleNearest": _upsample,
}  # fmt: skip
_NEED_ALL = {
    "BalancedPyramidGather", "BalancedPyramidScatter", "Concat", "Conv", "FC", "RoIAlign",
    "RoIPoolF",
}  # fmt: skip
