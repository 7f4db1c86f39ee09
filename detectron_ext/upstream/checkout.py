"""Finds and imports the checkout of Detectron."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Iterable

from detectron_ext.errors import UserError

PACKAGE = "detectron"
_NEEDED = "detectron/modeling/model_builder.py"
_PYTHON_2_MODULES = ("Queue", "cPickle", "urllib2")
_CYTHON_PARTS = ("cython_bbox", "cython_nms")


def add_to_path(checkout: str | Path) -> Path:
    """Put a checkout on Python's path, and return its absolute path.

    Raises:
        UserError: there is no Detectron in the folder.
    """
    require_checkout(checkout)
    root = Path(checkout).resolve()
    sys.path.insert(0, str(root))
    return root


def require_checkout(checkout: str | Path, flag: str = "") -> None:
    """Check that there is a Detectron in a folder.

    Args:
        checkout: path of the folder.
        flag: the flag that names it, with a space after it, for the message.

    Raises:
        UserError: the folder does not exist, or there is no Detectron in it.
    """
    path = Path(checkout)
    if not path.is_dir():
        raise UserError(f"{flag}{checkout} is no folder: name a checkout of Detectron")
    if not (path / _NEEDED).exists():
        raise UserError(f"{flag}{checkout} is no checkout of Detectron: it has no {_NEEDED}")


def import_all(modules: Iterable[str]) -> None:
    """Import modules of the checkout.

    Raises:
        UserError: Detectron is not on Python's path, its Cython parts are not built, it needs a
            package that is missing, or it has no such module.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(_remedy(module, error)) from error
        except SyntaxError as error:
            raise UserError(f"Detectron does not run under this Python: {error}") from error


def _remedy(module: str, error: ImportError) -> str:
    missing = error.name or ""
    if missing == PACKAGE:
        return "Detectron is not on Python's path: put its checkout into PYTHONPATH"
    if missing.rpartition(".")[2] in _CYTHON_PARTS or any(p in str(error) for p in _CYTHON_PARTS):
        return (
            "Detectron's Cython parts are not built for this Python: run "
            "`python setup.py build_ext --inplace` in its checkout (needs Cython below 3)"
        )
    if not missing or missing.startswith(PACKAGE + "."):
        return (
            f"this checkout of Detectron is not one the adapter knows: {module} cannot be imported "
            f"({error})"
        )
    if missing in _PYTHON_2_MODULES:
        return "this checkout of Detectron is for Python 2: use a commit of November 2018 or later"
    return f"Detectron needs the Python package {missing}: install it"
