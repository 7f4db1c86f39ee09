"""Every file that a run leaves is written by `detectron_ext.output_files`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "detectron_ext"
# Appending and locking cannot go through a file that is renamed. The build and the digits write
# into folders that are moved as a whole.
_EXCEPTIONS = {
    "output_files.py",
    "output_lock.py",
    "engine/statistics.py",
    "experiments/sweep.py",
    "standard_output.py",
    "data/digits.py",
    "benchmarks/extra_memory.py",
    "kernel_benchmark/run.py",  # only opens the file, to see whether it can be written
}
_WRITERS = {"write_text", "write_bytes", "imwrite", "savefig", "tofile", "save", "savez"}
SOURCES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).as_posix() not in _EXCEPTIONS
    and path.relative_to(PACKAGE).parts[0] != "native_build"
]


def _writes(tree: ast.AST) -> list:
    """Return the lines of calls that write a file in place."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [*node.args, *(word.value for word in node.keywords)]
        texts = [v.value for v in values if isinstance(v, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and set("wax+") & set(text)]
        is_open = name == "open" and any(len(mode) <= 3 for mode in modes)
        is_method = isinstance(node.func, ast.Attribute) and name in _WRITERS
        to_stream = any(word.arg in ("format", "f") for word in node.keywords)
        if is_open or (is_method and not to_stream):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_writes_a_file_in_place(path):
    assert not _writes(ast.parse(path.read_text(encoding="utf-8")))
