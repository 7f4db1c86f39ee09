"""Upstream's weights, proposals and detections, read without trusting the pickles they are in."""

from __future__ import annotations

from typing import Any

from detectron_ext.array_pickle import read_pickle
from detectron_ext.errors import WeightsError
from detectron_ext.upstream.patches import Patch, constant


def patches() -> list:
    """The patch of what reads every pickle of upstream's, which would run code that is in one."""
    return [Patch("detectron.utils.io", "load_object", ("file_name",), constant(load_object))]


def load_object(file_name: str) -> Any:
    """Read a pickle of arrays and plain containers, Python 2's included.

    Raises:
        WeightsError: in one line, a file that is missing, truncated or holds anything else.
    """
    return read_pickle(file_name, "data", WeightsError)
