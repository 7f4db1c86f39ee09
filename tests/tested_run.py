"""Folders of runs as a test leaves them."""

from __future__ import annotations

import json
from pathlib import Path


def write_test(root: Path, files: dict, dataset: str = "cats_val") -> Path:
    """Write files (content by name; JSON if it is not text) of a test; returns their folder."""
    folder = root / "test" / dataset / "retinanet"
    folder.mkdir(parents=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder
