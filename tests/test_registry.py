"""The registry of parts: entries by name, and one-line errors for names that are wrong."""

from __future__ import annotations

import pytest

from detectron_ext.errors import ConfigError
from detectron_ext.registry import Registry


def small_registry() -> Registry:
    registry: Registry = Registry("LIBRA.BFP.REFINE_TYPE")
    registry.register("conv")(1)
    registry.register("none")(2)
    return registry


def test_is_a_mapping_in_the_order_of_registration():
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


def test_an_unknown_name_lists_the_names_and_guesses_one():
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
