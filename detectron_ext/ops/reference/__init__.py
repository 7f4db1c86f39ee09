"""Every operator's definition in numpy at float64: what the implementations are checked against.

The definitions are written to be read, not to be fast. A function `f` has its gradient beside it as
`f_gradient`: it takes the gradients of the outputs last and returns the gradient of each input that
has one. Here all public functions of the modules in this folder can be reached by their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detectron_ext.ops.discovery import import_modules

for _module in import_modules(__name__, __path__):
    globals().update({name: getattr(_module, name) for name in _module.__all__})

if TYPE_CHECKING:
    # The definitions, which type checkers cannot see.
    def __getattr__(name: str) -> Any: ...
