"""Replacing attributes of modules that the tests make; needs no checkout."""

from __future__ import annotations

import sys
import types

import pytest

from detectron_ext.errors import UserError
from detectron_ext.upstream.patches import ANY, AppliedPatches, Patch, constant


@pytest.fixture
def package(monkeypatch):
    """Make two modules; the second one imported a function of the first by its name."""

    def module(name, **attributes):
        made = types.ModuleType(name)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    class Base:
        def inherited(self):
            return "base"

    class Model(Base):
        pass

    def add(model, blob):
        return "original"

    module("fakeron")
    module("fakeron.heads", add=add, Model=Model, WIDTH=4)
    return module("pipeline.builder", add=add), sys.modules["fakeron.heads"]


def _snapshot(*modules):
    return [dict(vars(module)) for module in modules]


def test_modules_that_imported_a_function_get_the_new_one(package):
    builder, heads = package
    before = _snapshot(*package)
    applied = AppliedPatches()
    applied.apply([
        Patch("fakeron.heads", "add", ("model", "blob"), lambda original: lambda m, b: "ours"),
        Patch("fakeron.heads", "WIDTH", ANY, lambda width: width * 2),
        Patch("fakeron.heads", "Model.loss_scale", None, constant(property(lambda model: 0.5))),
        Patch("fakeron.heads", "Model.inherited", ("self",), constant(lambda self: "ours")),
    ])  # fmt: skip
    model = heads.Model()
    assert (builder.add(0, 0), heads.add(0, 0), heads.WIDTH) == ("ours", "ours", 8)
    assert (model.loss_scale, model.inherited()) == (0.5, "ours")
    applied.restore()
    assert _snapshot(*package) == before
    assert model.inherited() == "base"
    assert "inherited" not in vars(heads.Model) and not hasattr(model, "loss_scale")


@pytest.mark.parametrize(
    ("module", "name", "parameters", "reason"),
    [
        ("fakeron.heads", "add", ("model", "blob", "dim"), r"add takes \(model, blob\), not \(mod"),
        ("fakeron.heads", "add_losses", ("model",), r"has no fakeron\.heads\.add_losses"),
        ("fakeron.heads", "Net.add", ("model",), r"has no fakeron\.heads\.Net\.add"),
        ("fakeron.tails", "add", ("model",), r"has no fakeron\.tails\.add"),
        ("fakeron.heads", "WIDTH", None, r"already has fakeron\.heads\.WIDTH"),
    ],
)
def test_an_unknown_module_is_not_changed(package, module, name, parameters, reason):
    before = _snapshot(*package)
    patches = [
        Patch("fakeron.heads", "WIDTH", ANY, constant(1)),
        Patch(module, name, parameters, constant(None)),
    ]
    with pytest.raises(UserError, match=f"^this checkout .*{reason}") as caught:
        AppliedPatches().apply(patches)
    assert "\n" not in str(caught.value)
    assert _snapshot(*package) == before


def test_nothing_is_changed_if_a_replacement_raises(package):
    builder, heads = package
    applied = AppliedPatches()
    applied.apply([Patch("fakeron.heads", "WIDTH", ANY, constant(5))])
    before = _snapshot(*package)

    def fail(original):
        raise RuntimeError("no replacement")

    patches = [
        Patch("fakeron.heads", "add", ("model", "blob"), lambda original: lambda m, b: "ours"),
        Patch("fakeron.heads", "WIDTH", ANY, constant(6)),
        Patch("fakeron.heads", "Model.loss_scale", None, constant(0.5)),
        Patch("fakeron.heads", "Model", ANY, fail),
    ]
    with pytest.raises(RuntimeError, match="no replacement"):
        applied.apply(patches)
    assert _snapshot(*package) == before
    assert not hasattr(heads.Model, "loss_scale") and builder.add(0, 0) == "original"
    applied.restore()
    assert heads.WIDTH == 4
