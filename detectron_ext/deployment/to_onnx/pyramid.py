"""The balanced feature pyramid and attention inside an ONNX graph, for maps of any size.

The cells that pooling and resizing read are calculated from the sizes while the model runs. The
rules are those of `detectron_ext.deployment.stock_operators`.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.deployment.to_onnx.graph import Graph, Value

_AXES = (2, 3)


def resize_nearest(graph: Graph, blob: Value, target: Value) -> Value:
    """Give a map (N, C, H, W) the height and width of another; take the nearest cells."""
    for axis in _AXES:
        wanted = target.size(axis)
        cells = graph.count_up(wanted) * blob.size(axis) // wanted
        blob = blob.gather(cells, axis)
    return blob


def pool_to(graph: Graph, blob: Value, target: Value) -> Value:
    """Give a map (N, C, H, W) the smaller height and width of another by adaptive max pooling."""
    for axis in _AXES:
        cells, wanted = blob.size(axis), target.size(axis)
        bins = graph.count_up(wanted)
        first = bins * cells // wanted
        last = ((bins + 1) * cells + (wanted - 1)) // wanted - 1
        # Bins differ in length. Shorter ones repeat their last cell.
        longest = (last - first).apply("ReduceMax", keepdims=0) + 1
        read = (first.unsqueeze(1) + graph.count_up(longest)).minimum(last.unsqueeze(1))
        # The gathered map has the axes bin and cell of the bin in place of the pooled axis.
        blob = blob.gather(read, axis).apply("ReduceMax", axes=[axis + 1], keepdims=0)
    return blob


def gather_levels(graph: Graph, levels: list[Value], refine_level: int) -> Value:
    """Return the mean of all levels at the size of one of them (Libra R-CNN, equation 4)."""
    target = levels[refine_level]
    resized = [
        level
        if index == refine_level
        else (pool_to if index < refine_level else resize_nearest)(graph, level, target)
        for index, level in enumerate(levels)
    ]
    return graph.add("Sum", resized, "gathered_levels") * (1.0 / len(levels))


def scatter_levels(
    graph: Graph, balanced: Value, levels: list[Value], refine_level: int
) -> list[Value]:
    """Add the balanced map, resized, to every level."""
    return [
        level
        + (
            balanced
            if index == refine_level
            else (pool_to if index > refine_level else resize_nearest)(graph, balanced, level)
        )
        for index, level in enumerate(levels)
    ]


def attention(graph: Graph, theta: Value, phi: Value, g: Value, factor: float) -> Value:
    """Mix the cells of g by softmax(factor * theta^T phi); all maps are (N, C, H, W).

    The products and the softmax stand one after the other, as runtimes expect them that fuse
    attention.
    """
    query, key, value = (blob.reshape(0, 0, -1) for blob in (theta, phi, g))
    products = graph.add("MatMul", [query.transpose(0, 2, 1), key], "attention_products")
    if factor != 1:
        products = products * factor
    weights = products.apply("Softmax", axis=-1)
    mixed = graph.add("MatMul", [weights, value.transpose(0, 2, 1)], "attended")
    return mixed.transpose(0, 2, 1).shaped_as(g)


def embedding_factor(channels: int, use_scale: bool) -> float:
    """Return the factor of the products: 1 / sqrt(C) if they are scaled."""
    return float(np.float32(channels) ** -0.5) if use_scale else 1.0
