"""The operators: a module holds the front-end, the Python operator and the table entry of one
operator, or of a few that differ little.

A front-end adds the operator to a Caffe2 net. Every module in this folder is imported when
`detectron_ext.ops` is, so a new operator needs no list to be edited.
"""

from __future__ import annotations

from detectron_ext.ops.discovery import import_modules

import_modules(__name__, __path__)
