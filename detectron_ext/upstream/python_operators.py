"""Runs Detectron's operators on the CPU without the native library.

Upstream adds operators to its nets by their names. If the operator of a name cannot run on the
current device, our Python operator is added instead. It gives the same numbers.
"""

from __future__ import annotations

from typing import Any, Callable

from detectron_ext.upstream.patches import ANY, Patch


def patches() -> list[Patch]:
    """Return the patch of Caffe2's nets."""
    return [Patch("caffe2.python.core", "Net._CreateAndAddToSelf", ANY, _adding_operator)]


def _adding_operator(original: Callable) -> Callable:
    from detectron_ext.ops import library, python_operators

    def add(net, op_type, inputs, outputs=None, **arguments):
        is_ours = python_operators.is_python_operator(op_type)
        if not is_ours or outputs is None or library.has_native(op_type):
            return original(net, op_type, inputs, outputs, **arguments)
        return python_operators.add(net, op_type, _as_list(inputs), _as_list(outputs), **arguments)

    return add


def _as_list(blobs: Any) -> list:
    return list(blobs) if isinstance(blobs, (list, tuple)) else [blobs]
