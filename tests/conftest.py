"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test may fail because the machine is slow or busy: there is no time limit for an example, nor
# for drawing one.
settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

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
