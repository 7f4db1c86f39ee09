"""Importing all modules of a package, so that a new module needs no list to be edited."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def import_modules(package: str, path: list[str]) -> list[ModuleType]:
    """Import every module of a package and return them in the order of their names.

    Args:
        package: the package's name, its ``__name__``.
        path: the package's ``__path__``.
    """
    names = sorted(found.name for found in pkgutil.iter_modules(path))
    return [importlib.import_module(f"{package}.{name}") for name in names]
