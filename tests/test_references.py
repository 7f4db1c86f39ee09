"""Every name of the package that code or a document mentions exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_FILES = sorted(
    path.relative_to(_ROOT)
    for pattern in ("detectron_ext/**/*.py", "tools/*", "docs/*.md", "*.md", "ops/*.md")
    for path in _ROOT.glob(pattern)
    if path.is_file()
)
_NAME = re.compile(r"\bdetectron_ext(?:\.[A-Za-z_]\w*)+")


@lru_cache(maxsize=None)
def _names(module: Path) -> frozenset:
    """The names that a module defines or imports at its top level."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return frozenset(found)


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module or, in a module, a name of its top level."""
    place = _ROOT
    for part in dotted.split("."):
        module = place / f"{part}.py"
        if (place / part).is_dir():
            place = place / part
        elif module.is_file():
            place = module
        elif place.is_file():
            return part in _names(place)
        else:
            return (place / "__init__.py").is_file() and part in _names(place / "__init__.py")
    return True


@pytest.mark.parametrize("path", _FILES, ids=str)
def test_names_of_the_package_exist(path):
    text = (_ROOT / path).read_text(encoding="utf-8")
    missing = {name for name in _NAME.findall(text) if not _exists(name)}
    assert not missing


@pytest.mark.parametrize(
    "name, exists",
    [
        ("detectron_ext.geometry.boxes.decode", True),
        ("detectron_ext.commands.train_and_test.test", True),
        ("detectron_ext.config.load", True),
        ("detectron_ext.commands.test", False),
        ("detectron_ext.geometry.boxes.undecode", False),
    ],
)
def test_a_name_that_does_not_exist_is_found(name, exists):
    assert _exists(name) is exists
