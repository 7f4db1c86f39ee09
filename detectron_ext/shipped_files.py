"""The folders of the tools and configurations that come with the package.

In a checkout they are the folders `tools/` and `configs/`. A wheel contains copies of them inside
the package, which setup.py makes.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
FOLDER_IN_WHEEL = "shipped"
_IS_WHEEL = (_PACKAGE / FOLDER_IN_WHEEL).is_dir()
_ROOT = _PACKAGE / FOLDER_IN_WHEEL if _IS_WHEEL else _PACKAGE.parent

TOOLS = _ROOT / "tools"
CONFIGS = _ROOT / "configs"
# Tools that work on the sources of a checkout. A wheel does not contain them.
CHECKOUT_TOOLS = frozenset(
    [
        "benchmark_kernels",
        "benchmark_pytorch",
        "build_dist",
        "build_ops",
        "document_config",
        "format_ops",
    ]
)


def tool_paths() -> dict[str, Path]:
    """Return the tools by name, such as "train_net", each with the path of its program."""
    return {path.stem: path for path in sorted(TOOLS.glob("*.py"))}


def tool_command(name: str) -> str:
    """Return the command of a tool: "detectron-ext train_net", or its program in a checkout."""
    return f"detectron-ext {name}" if _IS_WHEEL else f".venv/bin/python tools/{name}.py"
