"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from detectron_ext import environment
from detectron_ext.config.dataset_entry import FORMATS
from detectron_ext.config.keys import KEYS
from detectron_ext.config.rules import RegisteredName, registered

# No test may fail because the machine is slow or busy: there is no time limit for an example, nor
# for drawing one.
settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_path():
    """Return a function that finds a file of the optional shared folder, or skips the test."""
    root = Path(environment.SHARED.value or REPOSITORY.parent / "shared")

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"needs {name} of the shared folder (set DETECTRON_EXT_SHARED)")
        return path

    return find


@pytest.fixture
def restored_registries():
    """Let a test register parts: afterwards registries and imported modules are as before."""
    others = [
        FORMATS,
        "detectron_ext.modeling.bodies:BODIES",
        "detectron_ext.modeling.box_heads:HEADS",
    ]
    rules = [rule for key in KEYS.values() for rule in key.rules]
    named = [rule.place for rule in rules if isinstance(rule, RegisteredName)]
    before = {place: dict(registered(place)) for place in [*named, *others]}
    modules = set(sys.modules)
    yield
    # A file of LIBRA.IMPORTS that stays imported is not run again, and its parts would be missing.
    for name in set(sys.modules) - modules:
        if name.startswith("detectron_ext_import_"):
            del sys.modules[name]
    for place, parts in before.items():
        registered(place)._parts.clear()
        registered(place)._parts.update(parts)
