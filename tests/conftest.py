"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detectron_ext.config.rules import FORMATS, REGISTRIES
from detectron_ext.config.validate import registered

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_path():
    """Return a function that finds a file of the optional shared folder, or skips the test."""
    root = Path(os.environ.get("DETECTRON_EXT_SHARED", REPOSITORY.parent / "shared"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"needs {name} of the shared folder (set DETECTRON_EXT_SHARED)")
        return path

    return find


@pytest.fixture
def restored_registries():
    """Let a test register parts: afterwards every registry is as it was."""
    others = [
        FORMATS,
        "detectron_ext.modeling.bodies:BODIES",
        "detectron_ext.modeling.box_heads:HEADS",
    ]
    before = {place: dict(registered(place)) for place in [*REGISTRIES.values(), *others]}
    yield
    for place, parts in before.items():
        registered(place)._parts.clear()
        registered(place)._parts.update(parts)
