"""Operators of Libra R-CNN and of Detectron, as functions that add them to a Caffe2 net.

Importing this package loads the operator libraries (`library.load`). Each function adds the native
operator where one can run on the device in scope, and elsewhere a Python operator that computes the
same numbers. The functions are the front-ends of the table of operators (`table`), and
docs/operators.md describes them all. `reference` holds the float64 definition of every operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detectron_ext.ops import library, operators, reference
from detectron_ext.ops.library import native_library_loaded
from detectron_ext.ops.table import OPERATORS

_FRONT_ENDS = {entry.front_end.__name__: entry.front_end for entry in OPERATORS.values()}
globals().update(_FRONT_ENDS)

__all__ = ["library", "native_library_loaded", "operators", "reference", *_FRONT_ENDS]

if TYPE_CHECKING:
    # The front-ends, which type checkers cannot see.
    def __getattr__(name: str) -> Any: ...


library.load()
