"""A net that is being built: its operators and the constants that they read."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import core

_FILLS = {
    "f": ("GivenTensorFill", np.float32),
    "i": ("GivenTensorIntFill", np.int32),
    "q": ("GivenTensorInt64Fill", np.int64),
}


class NetWriter:
    """Collects the operators of ``net.pb`` and the constants of ``init_net.pb``.

    Attributes:
        operators: Caffe2 OperatorDefs, in the order of execution.
        constants: blob name to array.
    """

    def __init__(self) -> None:
        self.operators: list = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(value)
        return name

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        extra: Sequence[str] = (),
        **options: Any,
    ) -> str:
        """Add an operator and return the name of its first output.

        Args:
            operator: type of the operator.
            inputs: names of its inputs.
            output: name of its first output.
            extra: names of its other outputs.
            options: arguments of the operator.
        """
        self.operators.append(
            core.CreateOperator(operator, list(inputs), [output, *extra], **options)
        )
        return output

    def nets(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str]
    ) -> tuple[caffe2_pb2.NetDef, caffe2_pb2.NetDef]:
        """Return the net and the net that fills its constants.

        Args:
            name: name of the net.
            inputs: blobs that are fed, in the predictor's order.
            outputs: blobs that are read, in the predictor's order.

        Returns:
            (net, init_net), both NetDef. They run on the CPU, one operator after the other.
        """
        net = caffe2_pb2.NetDef(name=name, type="simple", op=self.operators)
        net.external_input.extend([*inputs, *self.constants])
        net.external_output.extend(outputs)
        init_net = caffe2_pb2.NetDef(name=f"{name}_init", type="simple")
        for blob, value in self.constants.items():
            fill, kind = _FILLS[np.dtype(value.dtype).char.replace("l", "q")]
            init_net.op.append(
                core.CreateOperator(fill, [], [blob], shape=value.shape,
                                    values=value.astype(kind).ravel().tolist())
            )  # fmt: skip
        # A blob that is fed must exist before the net is created.
        for blob in inputs:
            init_net.op.append(
                core.CreateOperator("GivenTensorFill", [], [blob], shape=[0], values=[])
            )
        return net, init_net
