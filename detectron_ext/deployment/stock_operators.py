"""Replacement of Detectron's and this package's operators by operators that every Caffe2 has.

The sizes of feature maps become constants, so the net works for one input size. Pooling and
resizing read the same cells as the replaced operators.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from caffe2.proto import caffe2_pb2

from detectron_ext.deployment.net_writer import NetWriter

# Operators that need the size of their inputs.
SIZED = (
    "BalancedPyramidGather",
    "BalancedPyramidScatter",
    "EmbeddedGaussianAttention",
    "NonLocalBlock",
)


def expand(
    writer: NetWriter,
    operator: caffe2_pb2.OperatorDef,
    sizes: Callable[[str], tuple],
    custom: bool,
) -> None:
    """Add an operator of a test net, or the operators that replace it.

    Args:
        writer: the net, to which operators are added.
        operator: OperatorDef of the operator.
        sizes: a function from the name of a blob to its shape (N, C, H, W). It is called only for
            the operators in `SIZED`.
        custom: whether to keep this package's operators, which need its library.
    """
    if operator.type == "StopGradient" and operator.input[0] == operator.output[0]:
        return
    if operator.type in _ALWAYS:
        _ALWAYS[operator.type](writer, operator)
    elif operator.type in SIZED and not custom:
        _EXPANSIONS[operator.type](writer, operator, sizes)
    else:
        writer.operators.append(operator)


def _argument(operator, name, default=0):
    return next((argument.i for argument in operator.arg if argument.name == name), default)


def _upsample(writer, operator):
    scale = float(_argument(operator, "scale", 2))
    writer.add(
        "ResizeNearest", operator.input, operator.output[0], width_scale=scale, height_scale=scale
    )


def _group_softmax(writer, operator):
    """Add a softmax over each anchor's classes of a blob (N, A * classes, H, W)."""
    blob, output = operator.input[0], operator.output[0]
    classes = _argument(operator, "num_classes")
    moved = writer.add("NCHW2NHWC", [blob], output + "_last")
    shaped = writer.add(
        "Reshape", [moved], output + "_rows", [output + "_shape"], shape=[-1, classes]
    )
    soft = writer.add("Softmax", [shaped], output + "_soft")
    back = writer.add("Reshape", [soft, output + "_shape"], output + "_whole", [output + "_old"])
    writer.add("NHWC2NCHW", [back], output)


def _affine_clip(writer, operator):
    limits = {argument.name: argument.f for argument in operator.arg if argument.name in _LIMITS}
    output = operator.output[0]
    scaled = writer.add("AffineChannel", operator.input, output)
    writer.add("Clip", [scaled], output, **limits)


_LIMITS = ("min", "max")

_ALWAYS = {
    "AffineChannelClip": _affine_clip,
    "UpsampleNearest": _upsample,
    "GroupSpatialSoftmax": _group_softmax,
}


def _resize(
    writer: NetWriter,
    blob: str,
    output: str,
    size: tuple[int, int],
    target: tuple[int, int],
    pool: bool,
) -> str:
    """Resize a map from one size (H, W) to another and return its name.

    Args:
        writer: the net, to which operators are added.
        blob: name of the map. It is returned if the sizes are equal.
        output: beginning of the names of new blobs.
        size: (H, W) of the map.
        target: the wanted (H, W).
        pool: use adaptive max pooling if True, the nearest cell if False.
    """
    for axis, (cells, wanted) in enumerate(zip(size, target), start=2):
        indices, span = (_bins if pool else _nearest)(cells, wanted)
        name = f"{output}_axis{axis}"
        if not np.array_equal(indices, np.arange(cells)):
            cells_read = writer.constant(name + "_cells", indices.astype(np.int32))
            blob = writer.add("Gather", [blob, cells_read], name, axis=axis)
        if span > 1:
            kernel: dict[str, Any] = {"kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1}
            side = "h" if axis == 2 else "w"
            kernel.update({f"kernel_{side}": span, f"stride_{side}": span})
            blob = writer.add("MaxPool", [blob], name + "_max", **kernel)
    return blob


def _nearest(cells: int, wanted: int) -> tuple[np.ndarray, int]:
    return np.arange(wanted) * cells // wanted, 1


def _bins(cells: int, wanted: int) -> tuple[np.ndarray, int]:
    """Return the cells of all bins and the length of a bin; short bins repeat their last cell."""
    first = np.arange(wanted) * cells // wanted
    last = -(-(np.arange(wanted) + 1) * cells // wanted) - 1
    span = int((last - first).max()) + 1
    return np.minimum(first[:, None] + np.arange(span), last[:, None]).ravel(), span


def _gather(writer, operator, sizes):
    levels, output = list(operator.input), operator.output[0]
    refine_level = _argument(operator, "refine_level")
    target = sizes(levels[refine_level])[2:]
    resized = [
        _resize(
            writer, level, f"{output}_{index}", sizes(level)[2:], target, pool=index < refine_level
        )
        for index, level in enumerate(levels)
    ]
    total = writer.add("Sum", resized, output + "_sum")
    writer.add("Scale", [total], output, scale=1.0 / len(levels))


def _scatter(writer, operator, sizes):
    balanced, *levels = operator.input
    refine_level = _argument(operator, "refine_level")
    size = sizes(balanced)[2:]
    for index, (level, output) in enumerate(zip(levels, operator.output)):
        target, pool = sizes(level)[2:], index > refine_level
        resized = _resize(writer, balanced, f"{output}_refined", size, target, pool)
        writer.add("Sum", [level, resized], output)


def _attention(writer, operator, sizes):
    use_scale = _argument(operator, "use_scale")
    shape = sizes(operator.input[0])
    _add_attention(writer, operator.input, shape, use_scale, operator.output[0])


def _non_local(writer, operator, sizes):
    x, *weights = operator.input
    output = operator.output[0]

    def convolve(source, part, name):
        blobs = [source, *weights[2 * part : 2 * part + 2]]
        return writer.add("Conv", blobs, f"{output}_{name}", kernel=1)

    embedded = [convolve(x, part, name) for part, name in enumerate(("theta", "phi", "g"))]
    n, _, height, width = sizes(x)
    shape = (n, sizes(weights[0])[0], height, width)
    _add_attention(writer, embedded, shape, _argument(operator, "use_scale"), f"{output}_attended")
    writer.add("Sum", [x, convolve(f"{output}_attended", 3, "out")], output)


def _add_attention(writer, embedded, shape, use_scale, output):
    """Add the attention of theta, phi and g, which all have the shape (N, C, H, W)."""
    n, channels, height, width = shape
    theta, phi, g = (
        writer.add(
            "Reshape", [blob], f"{output}_{name}", [f"{output}_{name}_shape"],
            shape=[n, channels, height * width],
        )
        for name, blob in zip(("theta", "phi", "g"), embedded)
    )  # fmt: skip
    products = writer.add("BatchMatMul", [theta, phi], output + "_products", trans_a=1)
    if use_scale:
        products = writer.add("Scale", [products], products, scale=float(channels) ** -0.5)
    weights = writer.add("Softmax", [products], output + "_weights", axis=2)
    mixed = writer.add("BatchMatMul", [g, weights], output + "_flat", trans_b=1)
    writer.add("Reshape", [mixed], output, [output + "_shape"], shape=list(shape))


_EXPANSIONS = {
    "BalancedPyramidGather": _gather,
    "BalancedPyramidScatter": _scatter,
    "EmbeddedGaussianAttention": _attention,
    "NonLocalBlock": _non_local,
}
