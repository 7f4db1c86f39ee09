"""The registry of parts: entries by name, and one-line errors for wrong names and parts."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from detectron_ext.errors import ConfigError
from detectron_ext.registry import Registry, undone_on_failure


def small_registry() -> Registry:
    registry: Registry = Registry("LIBRA.BFP.REFINE_TYPE")
    registry.register("conv")(1)
    registry.register("none")(2)
    return registry


def test_a_registry_is_a_mapping_in_the_order_of_registration():
    registry = small_registry()
    assert dict(registry) == {"conv": 1, "none": 2}
    assert list(registry) == ["conv", "none"]
    assert len(registry) == 2
    assert "non_local" not in registry


def test_the_decorator_returns_the_part():
    registry = small_registry()

    @registry.register("squeeze")
    def squeeze():
        return "squeezed"

    assert squeeze() == "squeezed"
    assert registry.choose("squeeze") is squeeze


def test_an_unknown_name_lists_the_names_and_suggests_one():
    with pytest.raises(ConfigError) as error:
        small_registry().choose("cnov")
    assert str(error.value) == (
        "LIBRA.BFP.REFINE_TYPE must be one of conv, none, given 'cnov' (str); did you mean conv?"
    )


@pytest.mark.parametrize(
    ("name", "reason"), [("conv", "registered already"), ("", "must be text"), (3, "must be text")]
)
def test_a_name_is_text_and_registered_once(name, reason):
    with pytest.raises(ConfigError, match=reason):
        small_registry().register(name)("other")


def test_a_part_of_the_wrong_kind_is_refused():
    registry: Registry = Registry("LIBRA.BFP.REFINE_TYPE", "a function", callable)
    registry.register("length")(len)
    with pytest.raises(ConfigError) as error:
        registry.register("three")(3)
    assert str(error.value) == ("LIBRA.BFP.REFINE_TYPE: 'three' must be a function, given 3 (int)")
    assert list(registry) == ["length"]


def test_a_failed_import_leaves_no_parts(tmp_path, monkeypatch):
    """Modules that it imported successfully stay loaded, and so do their parts."""
    registry = small_registry()
    monkeypatch.setitem(sys.modules, "the_registry", types.SimpleNamespace(REGISTRY=registry))
    monkeypatch.syspath_prepend(str(tmp_path))
    line = "from the_registry import REGISTRY\nREGISTRY.register({!r})({})\n"
    (tmp_path / "helper_of_failing.py").write_text(line.format("helper", 3))
    failing = tmp_path / "failing.py"
    failing.write_text("import helper_of_failing\n" + line.format("own", 4) + "1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), undone_on_failure():
            importlib.import_module("failing")
        assert dict(registry) == {"conv": 1, "none": 2, "helper": 3}
    failing.write_text(line.format("own", 5))
    importlib.invalidate_caches()
    with undone_on_failure():
        importlib.import_module("failing")
    assert registry["own"] == 5
    with pytest.raises(ConfigError, match=f"'own' is registered already by {failing}; choose"):
        registry.register("own")(6)
    for name in ("failing", "helper_of_failing"):
        del sys.modules[name]


def test_a_failure_removes_only_what_was_registered_during_it():
    """A part that was registered before stays, also if its module is not loaded any more."""
    registry = small_registry()
    code = "registry.register('executed')(1)"
    exec(compile(code, "<code>", "exec"), {"registry": registry, "__name__": "gone"})
    with pytest.raises(ZeroDivisionError), undone_on_failure():
        exec(compile(code.replace("executed", "other"), "<code>", "exec"), {"registry": registry})
        1 / 0  # noqa: B018
    assert list(registry) == ["conv", "none", "executed"]
