"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _package_logging():
    """Leave the package's logger as it was: tools keep its lines from others, as from caplog."""
    logger = logging.getLogger("detectron_ext")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers = before


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
