"""An ONNX graph that is being built: nodes, constants, and values that can be calculated with."""

from __future__ import annotations

from typing import Any, Sequence, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 16
"""The first opset whose RoiAlign knows both conventions of coordinates."""

_IR_VERSION = 8  # goes with opset 16 and is read by every onnxruntime since 1.10
_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(bool): TensorProto.BOOL,
}

Number = Union[int, float]
Operand = Union["Value", Number]


class Graph:
    """Collects nodes and constants. Every value has one name and is written once.

    Args:
        outputs: names that are kept free for the outputs of the graph, see `output`.

    Attributes:
        nodes: ONNX nodes in the order of execution.
    """

    def __init__(self, outputs: Sequence[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._names: dict[str, int] = dict.fromkeys(outputs, 1)
        self._known: dict[tuple, Value] = {}

    def add(
        self, operator: str, inputs: Sequence[Value | None], name: str, **attributes: Any
    ) -> Value:
        """Add a node with one output, which has the type of the first input.

        Args:
            operator: ONNX type of the node.
            inputs: values that it reads; None for an input that is left out.
            name: name of its output. A number is added if the name is taken.
            attributes: attributes of the node, and ``dtype``: numpy type of the output if it is not
                that of the first input.
        """
        first = inputs[0]
        assert first is not None
        dtype = attributes.pop("dtype", first.dtype)
        return self.add_many(operator, inputs, [name], [dtype], **attributes)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[Value | None],
        names: Sequence[str],
        dtypes: Sequence[Any],
        **attributes: Any,
    ) -> list[Value]:
        """Add a node with several outputs of the given names and numpy types."""
        outputs = [Value(self, self._free_name(name), dtype) for name, dtype in zip(names, dtypes)]
        self.nodes.append(
            helper.make_node(
                operator,
                ["" if value is None else value.name for value in inputs],
                [value.name for value in outputs],
                name=outputs[0].name,
                **attributes,
            )
        )
        return outputs

    def input(self, name: str, dtype: Any) -> Value:
        """Return a value that is fed from outside."""
        return Value(self, self._free_name(name), dtype)

    def output(self, value: Value, name: str) -> Value:
        """Give a value one of the names that are kept for outputs."""
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
        return Value(self, name, value.dtype)

    def constant(self, value: Any, dtype: Any, name: str = "constant") -> Value:
        """Return a constant. Equal constants without a name of their own are stored once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known or name != "constant":
            constant = Value(self, self._free_name(name), array.dtype)
            self._constants[constant.name] = array
            self._known.setdefault(key, constant)
            return constant
        return self._known[key]

    def integers(self, *values: int) -> Value:
        """Return a constant (n,) int64."""
        return self.constant(values, np.int64)

    def floats(self, *values: float) -> Value:
        """Return a constant (n,) float32."""
        return self.constant(values, np.float32)

    def sizes(self, *sizes: Operand) -> Value:
        """Return a vector (n,) int64 from numbers and from scalar values."""
        if all(isinstance(size, int) for size in sizes):
            return self.integers(*(int(size) for size in sizes))  # type: ignore[arg-type]
        parts = [
            size.reshape(1) if isinstance(size, Value) else self.integers(int(size))
            for size in sizes
        ]
        return self.concat(parts, 0, "sizes")

    def concat(self, values: Sequence[Value], axis: int, name: str = "joined") -> Value:
        """Join values along an axis."""
        return self.add("Concat", values, name, axis=axis)

    def stack(self, values: Sequence[Value], axis: int, name: str = "stacked") -> Value:
        """Join values along a new axis, which may be negative."""
        return self.concat([value.unsqueeze(axis) for value in values], axis, name)

    def count_up(self, end: Value) -> Value:
        """Return 0, 1, ... up to ``end`` (an int64 scalar), which is left out."""
        zero, one = (self.constant(number, np.int64) for number in (0, 1))
        return self.add("Range", [zero, end, one], "range")

    def model(
        self,
        inputs: Sequence[tuple[Value, Sequence[Any]]],
        outputs: Sequence[tuple[Value, Sequence[Any]]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """Return the finished model.

        Args:
            inputs, outputs: pairs of a value and its shape. A side is a number, or a name if it
                may differ between calls.
            metadata: texts that are stored with the model.

        Raises:
            onnx.checker.ValidationError: the graph is not valid; this is a fault of this package.
        """
        graph = helper.make_graph(
            self.nodes,
            "detector",
            [_value_info(value, shape) for value, shape in inputs],
            [_value_info(value, shape) for value, shape in outputs],
            [numpy_helper.from_array(array, name) for name, array in self._used_constants()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="detectron_ext",
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _used_constants(self) -> list[tuple[str, np.ndarray]]:
        used = {name for node in self.nodes for name in node.input}
        return [(name, array) for name, array in self._constants.items() if name in used]

    def _free_name(self, wanted: str) -> str:
        count = self._names.get(wanted, 0)
        self._names[wanted] = count + 1
        if not count:
            return wanted
        return self._free_name(f"{wanted}_{count + 1}")


def _value_info(value: Value, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, _TYPES[value.dtype], shape)


class Value:
    """A tensor of the graph. Arithmetic adds nodes, with numpy's rules of broadcasting.

    A Python number takes the type of the value that it is combined with.

    Attributes:
        name: its name in the graph.
        dtype: its numpy type.
    """

    def __init__(self, graph: Graph, name: str, dtype: Any):
        self._graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def _with(self, operator: str, other: Operand, swapped: bool = False, **extra: Any) -> Value:
        if not isinstance(other, Value):
            other = self._graph.constant(other, self.dtype)
        assert other.dtype == self.dtype, (operator, self.name, other.name)
        pair = [other, self] if swapped else [self, other]
        return self._graph.add(operator, pair, operator.lower(), **extra)

    def __add__(self, other: Operand) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self._with("Sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other: Operand) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        assert self.dtype == np.float32
        return self._with("Div", other)

    def __floordiv__(self, other: Operand) -> Value:
        """Divide whole numbers that are 0 or more."""
        assert self.dtype == np.int64
        return self._with("Div", other)

    def __mod__(self, other: Operand) -> Value:
        return self._with("Mod", other)

    def __gt__(self, other: Operand) -> Value:
        return self._with("Greater", other, dtype=bool)

    def __ge__(self, other: Operand) -> Value:
        return self._with("GreaterOrEqual", other, dtype=bool)

    def __lt__(self, other: Operand) -> Value:
        return self._with("Less", other, dtype=bool)

    def equals(self, other: Operand) -> Value:
        """Return where the value equals another."""
        return self._with("Equal", other, dtype=bool)

    def __and__(self, other: Value) -> Value:
        return self._with("And", other)

    def minimum(self, other: Operand) -> Value:
        """Return the smaller of both, element by element."""
        return self._with("Min", other)

    def maximum(self, other: Operand) -> Value:
        """Return the larger of both, element by element."""
        return self._with("Max", other)

    def apply(self, operator: str, **attributes: Any) -> Value:
        """Return the output of a node with this value as its only input."""
        return self._graph.add(operator, [self], operator.lower(), **attributes)

    def to(self, dtype: Any) -> Value:
        """Convert to another numpy type."""
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype else self.apply("Cast", to=_TYPES[dtype], dtype=dtype)

    def shape(self) -> Value:
        """Return the shape, (n,) int64."""
        return self.apply("Shape", dtype=np.int64)

    def size(self, axis: int) -> Value:
        """Return the length of an axis that is 0 or more, an int64 scalar."""
        return self.shape().gather(self._graph.constant(axis, np.int64))

    def reshape(self, *sizes: Operand) -> Value:
        """Give the value another shape. Here 0 keeps a side and -1 takes what is left over."""
        return self._graph.add("Reshape", [self, self._graph.sizes(*sizes)], "reshaped")

    def shaped_as(self, other: Value) -> Value:
        """Give the value the shape of another, which has as many elements."""
        return self._graph.add("Reshape", [self, other.shape()], "reshaped")

    def unsqueeze(self, axis: int) -> Value:
        """Add an axis of length 1."""
        return self._graph.add("Unsqueeze", [self, self._graph.integers(axis)], "unsqueezed")

    def transpose(self, *axes: int) -> Value:
        """Permute the axes."""
        return self.apply("Transpose", perm=axes)

    def gather(self, indices: Value, axis: int = 0) -> Value:
        """Take elements of an axis."""
        return self._graph.add("Gather", [self, indices], "gathered", axis=axis)

    def gather_nd(self, indices: Value) -> Value:
        """Take the elements with the coordinates (n, number of coordinates) int64."""
        return self._graph.add("GatherND", [self, indices], "gathered")

    def column(self, index: int) -> Value:
        """Return one column of the last axis, without that axis."""
        return self.gather(self._graph.constant(index, np.int64), axis=-1)

    def columns(self, *indices: int) -> Value:
        """Return some columns of the last axis."""
        return self.gather(self._graph.integers(*indices), axis=-1)

    def rows(self, mask: Value) -> Value:
        """Return the rows of the first axis for which a bool mask (n,) is true."""
        return self._graph.add("Compress", [self, mask], "rows", axis=0)

    def start(self, count: Value, axis: int = 0) -> Value:
        """Return the first ``count`` (an int64 scalar) elements of an axis."""
        graph = self._graph
        inputs = [self, graph.integers(0), count.reshape(1), graph.integers(axis)]
        return graph.add("Slice", inputs, "start")

    def where_true(self) -> Value:
        """Return the indices (n,) int64 of the true elements of a bool vector."""
        return self.apply("NonZero", dtype=np.int64).reshape(-1)

    def best(self, most: Operand) -> tuple[Value, Value]:
        """Return the highest elements of a vector, highest first, and their indices.

        Args:
            most: the largest number of elements; a vector may have fewer.
        """
        count = self.size(0)
        if isinstance(most, Value) or most > 0:
            count = count.minimum(most)
        values, indices = self._graph.add_many(
            "TopK", [self, count.reshape(1)], ["best", "best_indices"], [self.dtype, np.int64]
        )
        return values, indices
