"""Packages that a part of this project uses and that need not be installed."""

from __future__ import annotations

import importlib
from typing import Any

from detectron_ext.errors import UserError

_INSTALL = {
    "onnx": "pip install onnx onnxruntime",
    "onnxruntime": "pip install onnx onnxruntime",
    "tensorboard": "pip install tensorboard",
}


def import_optional(module: str, needed_by: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its full name.
        needed_by: what needs it, as the beginning of the message.

    Raises:
        UserError: the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{needed_by} needs the package {package} ({error}): {_INSTALL[package]}"
        ) from error
