"""Translation of the operators of a test net from Caffe2 to ONNX."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from caffe2.proto import caffe2_pb2

from detectron_ext.deployment.to_onnx import proposals, pyramid
from detectron_ext.deployment.to_onnx.graph import Graph, Value
from detectron_ext.errors import UserError


class Operator:
    """A Caffe2 operator with its inputs in the graph.

    Attributes:
        type: its Caffe2 type.
        inputs: values of its inputs.
        outputs: Caffe2 names of its outputs.
        constants: the inputs that are parameters, by position.
    """

    def __init__(
        self,
        definition: caffe2_pb2.OperatorDef,
        inputs: list[Value],
        constants: dict[int, np.ndarray],
    ):
        self.type = definition.type
        self.inputs, self.constants = inputs, constants
        self.outputs = list(definition.output)
        self._arguments = {argument.name: argument for argument in definition.arg}

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer argument."""
        argument = self._arguments.get(name)
        return default if argument is None else int(argument.i)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a floating-point argument."""
        argument = self._arguments.get(name)
        return default if argument is None else float(argument.f)

    def has(self, name: str) -> bool:
        """Return whether an argument is set."""
        return name in self._arguments

    def pair(self, name: str, default: int = 0) -> list[int]:
        """Return a window's (height, width): one number for both, or ``name_h`` and ``name_w``."""
        both = self.integer(name, default)
        return [self.integer(f"{name}_{side}", both) for side in "hw"]

    def padding(self) -> list[int]:
        """Return the padding at the top, left, bottom and right."""
        both = self.integer("pad")
        return [self.integer(f"pad_{side}", both) for side in "tlbr"]


Translation = Callable[[Graph, Operator], "list[Value]"]


def translate(graph: Graph, operator: Operator) -> list[Value]:
    """Add the nodes for a Caffe2 operator.

    Returns:
        Its first outputs, at least all that later operators of a test net read.

    Raises:
        UserError: the operator has no translation, for example one that a part from outside adds.
    """
    if operator.type not in _TRANSLATIONS:
        raise UserError(
            f"the operator {operator.type} (output {operator.outputs[0]}) has no translation to "
            "ONNX: export with tools/convert_pkl_to_pb.py, or choose other parts for the model"
        )
    return _TRANSLATIONS[operator.type](graph, operator)


def _same(onnx_type: str, **attributes: Any) -> Translation:
    """Return the translation of an operator that ONNX has under another name or the same."""
    return lambda graph, operator: [
        graph.add(onnx_type, operator.inputs, operator.outputs[0], **attributes)
    ]


def _window(operator: Operator) -> dict[str, Any]:
    return {
        "kernel_shape": operator.pair("kernel"),
        "strides": operator.pair("stride", 1),
        "pads": operator.padding(),
    }


def _conv(graph: Graph, operator: Operator) -> list[Value]:
    return [
        graph.add(
            "Conv", operator.inputs, operator.outputs[0], **_window(operator),
            dilations=operator.pair("dilation", 1), group=operator.integer("group", 1),
        )
    ]  # fmt: skip


def _max_pool(graph: Graph, operator: Operator) -> list[Value]:
    return [graph.add("MaxPool", operator.inputs, operator.outputs[0], **_window(operator))]


def _average_pool(graph: Graph, operator: Operator) -> list[Value]:
    return [graph.add("AveragePool", operator.inputs, operator.outputs[0], **_window(operator))]


def _affine(graph: Graph, operator: Operator) -> list[Value]:
    blob = operator.inputs[0]
    scale, bias = (
        graph.constant(operator.constants[index].reshape(1, -1, 1, 1), np.float32,
                       operator.inputs[index].name)
        for index in (1, 2)
    )  # fmt: skip
    return [blob * scale + bias]


def _affine_clip(graph: Graph, operator: Operator) -> list[Value]:
    return [_clipped(graph, operator, _affine(graph, operator)[0])]


def _clip(graph: Graph, operator: Operator) -> list[Value]:
    return [_clipped(graph, operator, operator.inputs[0])]


def _clipped(graph: Graph, operator: Operator, blob: Value) -> Value:
    limits = [
        graph.constant(operator.number(name), np.float32) if operator.has(name) else None
        for name in ("min", "max")
    ]
    return graph.add("Clip", [blob, *limits], operator.outputs[0])


def _group_norm(graph: Graph, operator: Operator) -> list[Value]:
    blob = operator.inputs[0]
    groups = operator.integer("group", 32)
    rows = blob.reshape(0, groups, -1)
    ones, zeros = graph.floats(*[1.0] * groups), graph.floats(*[0.0] * groups)
    normal = graph.add(
        "InstanceNormalization", [rows, ones, zeros], "normalised",
        epsilon=operator.number("epsilon", 1e-5),
    )  # fmt: skip
    operator.inputs[0] = normal.shaped_as(blob)
    return _affine(graph, operator)


def _upsample(graph: Graph, operator: Operator) -> list[Value]:
    scale = float(operator.integer("scale", 2))
    inputs = [operator.inputs[0], None, graph.floats(1, 1, scale, scale)]
    return [
        graph.add(
            "Resize", inputs, operator.outputs[0], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )
    ]  # fmt: skip


def _fc(graph: Graph, operator: Operator) -> list[Value]:
    blob, weights, bias = operator.inputs
    rows = blob.apply("Flatten", axis=operator.integer("axis", 1))
    return [graph.add("Gemm", [rows, weights, bias], operator.outputs[0], transB=1)]


def _group_softmax(graph: Graph, operator: Operator) -> list[Value]:
    """Translate the softmax over each anchor's classes of a map (N, A * classes, H, W)."""
    blob = operator.inputs[0]
    classes = operator.integer("num_classes")
    split = blob.reshape(0, -1, classes, blob.size(2), blob.size(3))
    return [split.apply("Softmax", axis=2).shaped_as(blob)]


def _gather(graph: Graph, operator: Operator) -> list[Value]:
    return [pyramid.gather_levels(graph, operator.inputs, operator.integer("refine_level"))]


def _scatter(graph: Graph, operator: Operator) -> list[Value]:
    balanced, *levels = operator.inputs
    return pyramid.scatter_levels(graph, balanced, levels, operator.integer("refine_level"))


def _attention(graph: Graph, operator: Operator) -> list[Value]:
    use_scale = bool(operator.integer("use_scale"))
    if use_scale:
        channels = operator.inputs[0].size(1).to(np.float32)
        operator.inputs[0] = operator.inputs[0] / channels.apply("Sqrt")
    theta, phi, g = operator.inputs
    return [pyramid.attention(graph, theta, phi, g, factor=1.0)]


def _non_local(graph: Graph, operator: Operator) -> list[Value]:
    x, *weights = operator.inputs
    theta, phi, g = (
        graph.add("Conv", [x, *weights[2 * part : 2 * part + 2]], name, kernel_shape=[1, 1])
        for part, name in enumerate(("theta", "phi", "g"))
    )
    channels = len(operator.constants[1])
    factor = pyramid.embedding_factor(channels, bool(operator.integer("use_scale")))
    attended = pyramid.attention(graph, theta, phi, g, factor)
    return [x + graph.add("Conv", [attended, *weights[6:8]], "refined", kernel_shape=[1, 1])]


def _roi_align(graph: Graph, operator: Operator) -> list[Value]:
    blob, rois = operator.inputs
    images = rois.column(0).to(np.int64)
    mode = "half_pixel" if operator.integer("aligned") else "output_half_pixel"
    return [
        graph.add(
            "RoiAlign", [blob, rois.columns(1, 2, 3, 4), images], operator.outputs[0],
            coordinate_transformation_mode=mode, mode="avg",
            output_height=operator.integer("pooled_h", 1),
            output_width=operator.integer("pooled_w", 1),
            sampling_ratio=max(operator.integer("sampling_ratio"), 0),
            spatial_scale=operator.number("spatial_scale", 1.0),
        )
    ]  # fmt: skip


def _roi_max_pool(graph: Graph, operator: Operator) -> list[Value]:
    return [
        graph.add(
            "MaxRoiPool", operator.inputs, operator.outputs[0],
            pooled_shape=operator.pair("pooled", 1),
            spatial_scale=operator.number("spatial_scale", 1.0),
        )
    ]  # fmt: skip


def _concat(graph: Graph, operator: Operator) -> list[Value]:
    return [graph.concat(operator.inputs, operator.integer("axis", 1), operator.outputs[0])]


def _unchanged(graph: Graph, operator: Operator) -> list[Value]:
    return [operator.inputs[0]]


def _proposals(graph: Graph, operator: Operator) -> list[Value]:
    settings = proposals.ProposalSettings(
        stride=1 / operator.number("spatial_scale"),
        most_anchors=operator.integer("pre_nms_topN"),
        most_boxes=operator.integer("post_nms_topN"),
        max_overlap=operator.number("nms_thresh"),
        min_size=operator.number("min_size"),
        plus_one=float(operator.integer("legacy_plus_one", 1)),
    )
    scores, deltas, image_info, anchors = operator.inputs
    return list(proposals.make_proposals(graph, scores, deltas, image_info, anchors, settings))


def _distribute(graph: Graph, operator: Operator) -> list[Value]:
    levels = operator.integer("rpn_max_level") - operator.integer("rpn_min_level") + 1
    return proposals.distribute(
        graph,
        operator.inputs[:levels],
        operator.inputs[levels:],
        most=operator.integer("rpn_post_nms_topN"),
        canonical_scale=operator.integer("roi_canonical_scale"),
        canonical_level=operator.integer("roi_canonical_level"),
        levels=range(operator.integer("roi_min_level"), operator.integer("roi_max_level") + 1),
    )


_TRANSLATIONS: dict[str, Translation] = {
    "Add": _same("Add"),
    "AffineChannel": _affine,
    "AffineChannelClip": _affine_clip,
    "Alias": _unchanged,
    "AveragePool": _average_pool,
    "BalancedPyramidGather": _gather,
    "BalancedPyramidScatter": _scatter,
    # Regions stay in the order of their levels, see `proposals.distribute`.
    "BatchPermutation": _unchanged,
    "Clip": _clip,
    "CollectAndDistributeFpnRpnProposals": _distribute,
    "Concat": _concat,
    "Conv": _conv,
    "EmbeddedGaussianAttention": _attention,
    "FC": _fc,
    "GenerateProposals": _proposals,
    "GroupNorm": _group_norm,
    "GroupSpatialSoftmax": _group_softmax,
    "MaxPool": _max_pool,
    "NonLocalBlock": _non_local,
    "Relu": _same("Relu"),
    "RoIAlign": _roi_align,
    "RoIPoolF": _roi_max_pool,
    "Sigmoid": _same("Sigmoid"),
    "Softmax": _same("Softmax", axis=1),
    "StopGradient": _unchanged,
    "Sum": _same("Sum"),
    "UpsampleNearest": _upsample,
}
