"""Replaces attributes of other modules after a check, and restores them."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any, Callable, NamedTuple, Sequence

from detectron_ext.errors import UserError

_MISSING = object()
ANY = ("...",)


class Patch(NamedTuple):
    """One attribute to replace.

    Attributes:
        module: full name of the module.
        name: name of the attribute; "Class.attribute" for an attribute of a class.
        parameters: names of the parameters that the present attribute must have. ANY accepts all.
            None means that the attribute must not exist yet.
        replace: a function that gets the present attribute, or None if there is none, and returns
            the new one.
    """

    module: str
    name: str
    parameters: tuple | None
    replace: Callable[[Any], Any]

    @property
    def full_name(self) -> str:
        """Module and attribute."""
        return f"{self.module}.{self.name}"

    def owner(self) -> tuple:
        """Return the module or class that has the attribute, and the attribute's name in it."""
        owner: Any = importlib.import_module(self.module)
        *outer, last = self.name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        return owner, last


def constant(value: Any) -> Callable[[Any], Any]:
    """Return a ``replace`` function that always returns ``value``."""
    return lambda present: value


class AppliedPatches:
    """The replaced attributes in their order, to restore them."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def apply(self, patches: Sequence[Patch]) -> None:
        """Check all patches, then apply them. If anything fails, nothing is changed.

        Modules that imported a function by its name get the new function, too.

        Raises:
            UserError: an attribute is missing, exists already, or has other parameters.
            Exception: an error that the ``replace`` function of a patch raises.
        """
        for patch in patches:
            _check(patch)
        already_applied = len(self._replaced)
        try:
            for patch in patches:
                self._apply_one(patch)
        except BaseException:
            self._restore(already_applied)
            raise

    def _apply_one(self, patch: Patch) -> None:
        owner, name = patch.owner()
        present = getattr(owner, name, None)
        replacement = patch.replace(present)
        self._set(owner, name, replacement)
        if callable(present):
            for module in _importers(patch.module, name, present):
                self._set(module, name, replacement)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        # vars() leaves out inherited attributes. Restoring such a one means to delete it here.
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)
        self._replaced.append((owner, name, before))

    def restore(self) -> None:
        """Restore every attribute, the last replaced one first."""
        self._restore(0)

    def _restore(self, kept: int) -> None:
        """Restore all but the first ``kept`` attributes."""
        while len(self._replaced) > kept:
            owner, name, value = self._replaced.pop()
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _check(patch: Patch) -> None:
    try:
        owner, name = patch.owner()
    except (ImportError, AttributeError):
        raise _unknown(f"it has no {patch.full_name}") from None
    present = getattr(owner, name, _MISSING)
    if patch.parameters is None:
        if present is not _MISSING:
            raise _unknown(f"it already has {patch.full_name}")
    elif present is _MISSING:
        raise _unknown(f"it has no {patch.full_name}")
    elif patch.parameters != ANY:
        found = _parameters(present)
        if found != patch.parameters:
            raise _unknown(
                f"{patch.full_name} takes ({', '.join(found)}), not ({', '.join(patch.parameters)})"
            )


def _parameters(function: Any) -> tuple:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _unknown(reason: str) -> UserError:
    return UserError(
        f"this checkout of Detectron is not one the adapter knows: {reason}; use "
        "facebookresearch/Detectron, a commit of November 2018 or later"
    )


def _importers(module: str, name: str, present: Any) -> list:
    """Return the other loaded modules, a user's own included, that have ``present`` as ``name``."""
    return [
        other
        for other_name, other in list(sys.modules.items())
        if other_name != module and getattr(other, "__dict__", {}).get(name) is present
    ]
