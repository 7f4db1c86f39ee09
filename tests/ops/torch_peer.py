"""A mark for tests that compare with functions that older PyTorches lack."""

from __future__ import annotations

import pytest
import torch

_VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])

needs_recent_torch = pytest.mark.skipif(
    _VERSION < (1, 9),
    reason=f"compares with functions that the PyTorch of this Caffe2, {torch.__version__}, "
    "lacks or has with faults",
)
