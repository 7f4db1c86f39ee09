"""The installed packages have every name that Caffe2's own Python files take from them."""

from __future__ import annotations

import ast
import importlib
import warnings
from pathlib import Path

import caffe2
import numpy as np
import pytest
from caffe2.python import core

_ROOT = Path(caffe2.__path__[0])  # type: ignore[attr-defined]
# The packages that Caffe2 needs. Others, such as onnx, are for files that a detector does not use.
_PACKAGES = ("numpy", "networkx", "google", "six", "future", "past", "yaml", "matplotlib")
_STANDARD = ("collections", "inspect", "itertools", "functools", "time", "fractions", "base64")
# Those that this project or Detectron imports, without Detectron's converter of Caffe models, which
# needs Caffe itself.
_MODULES = (
    "brew", "cnn", "core", "dyndep", "gradient_checker", "memonger", "model_helper",
    "modeling.initializers", "modeling.parameter_info", "muji", "net_drawer", "predictor_constants",
    "predictor.predictor_exporter", "predictor.predictor_py_utils", "scope", "utils", "workspace",
)  # fmt: skip


def _files() -> list:
    """Caffe2's files without tests, examples and the scripts of Python 2."""
    python = _ROOT / "python"
    skipped = ("test", "examples", "benchmark", "onnx", "trt", "mint", "docs")
    return [
        path
        for path in sorted(python.rglob("*.py"))
        if not any(word in str(path.relative_to(python)) for word in skipped)
    ]


def _module(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _imported(tree: ast.AST) -> dict:
    """Return the names of a file that stand for modules of the packages, with their modules."""
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import):
            continue
        for alias in node.names:
            package = alias.name.partition(".")[0]
            if package in _PACKAGES + _STANDARD:
                found[alias.asname or package] = alias.name if alias.asname else package
    return {name: _module(module) for name, module in found.items()}


def _taken(path: Path) -> list:
    """Return (module, attribute, place) of each name that a file takes from one of the packages."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = _imported(tree)
    taken = [
        (modules[node.value.id], node.attr, f"{path.name}:{node.lineno}")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
            continue
        if node.module.partition(".")[0] in _PACKAGES + _STANDARD:
            module = _module(node.module)
            place = f"{path.name}:{node.lineno}"
            taken += [(module, alias.name, place) for alias in node.names]
    return taken


def _exists(module, name: str) -> bool:
    if module is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many of the names are deprecated
        return hasattr(module, name) or _module(f"{module.__name__}.{name}") is not None


def test_no_name_that_caffe2_takes_is_lost():
    taken = [use for path in _files() for use in _taken(path)]
    assert len(taken) > 500
    names = {(module.__name__, name) for module, name, _ in taken if module is not None}
    assert ("numpy", "asscalar") in names and ("networkx", "DiGraph") in names
    lost = [
        f"{getattr(module, '__name__', module)}.{name} ({place})"
        for module, name, place in taken
        if not _exists(module, name)
    ]
    assert lost == []


@pytest.mark.parametrize("name", _MODULES)
def test_modules_that_detectors_use_are_imported(name):
    importlib.import_module(f"caffe2.python.{name}")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_arguments_of_operators_may_be_numpy_scalars(kind):
    """Caffe2 turns them into Python's numbers with np.asscalar."""
    (argument,) = core.CreateOperator("Scale", ["x"], ["y"], scale=kind(3)).arg
    assert (argument.f if np.issubdtype(kind, np.floating) else argument.i) == 3
