"""Detectron's operators on the CPU without the native library.

Upstream adds them to its nets by their names. Where none of that name can run on the device in
scope, the Python operator of the same numbers is added instead.
"""

from __future__ import annotations

from detectron_ext.upstream.patches import ANY, Patch


def patches() -> list:
    """The patch of Caffe2's nets."""
    return [Patch("caffe2.python.core", "Net._CreateAndAddToSelf", ANY, _adding_operator)]


def _adding_operator(original):
    from detectron_ext.ops import library, python_operators

    def add(net, op_type, inputs, outputs=None, **arguments):
        is_ours = python_operators.is_python_operator(op_type)
        if not is_ours or outputs is None or library.has_native(op_type):
            return original(net, op_type, inputs, outputs, **arguments)
        return python_operators.add(net, op_type, _as_list(inputs), _as_list(outputs), **arguments)

    return add


def _as_list(blobs) -> list:
    return list(blobs) if isinstance(blobs, (list, tuple)) else [blobs]
