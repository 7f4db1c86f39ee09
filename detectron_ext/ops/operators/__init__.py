"""The operators. A module holds the front-end, the Python operator and the table entry of one
operator, or of a few similar ones.

A front-end adds the operator to a Caffe2 net. Every module in this folder is imported when
`detectron_ext.ops` is, so that its entries are in the table. `detectron_ext.ops` exports the
front-ends.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
