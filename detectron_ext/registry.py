"""Parts that a configuration chooses by name, and that anyone can add to.

A registry is a mapping from names to parts of one kind, such as box losses. It stands in the module
of its part, and its docstring there says what an entry must be. Our own parts are registered in the
same way as a user's:

    from detectron_ext.modeling.balanced_pyramid import REFINEMENTS

    @REFINEMENTS.register("squeeze")
    def refine_squeeze(model, blob, dim):
        ...

A configuration that lists this file in LIBRA.IMPORTS can then set LIBRA.BFP.REFINE_TYPE to squeeze.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, TypeVar

from detectron_ext.errors import ConfigError, choice_error, shown

if TYPE_CHECKING:
    from typing import Protocol as Protocol
else:
    # typing.Protocol is newer than Python 3.7. Nothing needs it at run time.
    Protocol = object

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """A mapping from names to parts, in the order in which they were registered.

    Args:
        key: the configuration key that selects an entry, for messages.
        kind: what an entry must be, for messages, for example "a function".
        is_kind: whether a part is of that kind. It is called when the part is registered.
    """

    def __init__(
        self, key: str, kind: str = "an object", is_kind: Callable[[Any], bool] = lambda part: True
    ) -> None:
        self.key = key
        self._kind = kind
        self._is_kind = is_kind
        self._parts: dict[str, Part] = {}
        # For each name, the globals of the module that was being imported when it was registered.
        self._importing: dict[str, dict[str, Any] | None] = {}
        _REGISTRIES.append(self)

    def register(self, name: str) -> Callable[[Part], Part]:
        """Return a decorator that registers a function, class or object under ``name``.

        Raises:
            ConfigError: the name is not text, is empty, or belongs to another part already. The
                decorator raises it for a part of the wrong kind, too.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{self.key}: a part's name must be text, given {name!r}")

        def add(part: Part) -> Part:
            if name in self._parts:
                raise ConfigError(
                    f"{self.key}: {name!r} is registered already{self._place(name)}; choose "
                    "another name"
                )
            if not self._is_kind(part):
                raise ConfigError(f"{self.key}: {name!r} must be {self._kind}, given {shown(part)}")
            self._parts[name] = part
            self._importing[name] = _module_being_imported()
            return part

        return add

    def _place(self, name: str) -> str:
        module = self._importing.get(name) or {}
        file = module.get("__file__")
        return f" by {file}" if file else ""

    def choose(self, name: str) -> Part:
        """Return the part registered under ``name``.

        Raises:
            ConfigError: there is no such part; the message lists the names and guesses one.
        """
        if name not in self._parts:
            raise choice_error(self.key, self._parts, name)
        return self._parts[name]

    def forget_unloaded(self, kept: Mapping[str, Part]) -> None:
        """Remove the parts of modules that failed to import.

        Args:
            kept: parts that stay in any case.
        """
        for name in [name for name in self._parts if name not in kept]:
            module = self._importing.get(name)
            if module is not None and not _is_loaded(module):
                del self._parts[name]

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


_REGISTRIES: list[Registry] = []


@contextlib.contextmanager
def undone_on_failure() -> Iterator[None]:
    """Let an import register all of its parts or none.

    If the body raises, the parts that it registered are removed, so that the import can be tried
    again. Exception: modules that the body imported successfully stay loaded. Python does not run
    them again, so their parts stay, too.
    """
    before = {id(registry): dict(registry) for registry in _REGISTRIES}
    try:
        yield
    except BaseException:
        for registry in _REGISTRIES:
            registry.forget_unloaded(kept=before.get(id(registry), {}))
        raise


def _module_being_imported() -> dict[str, Any] | None:
    """Return the globals of the module whose top-level code runs now, None where none does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return None if frame is None else frame.f_globals


def _is_loaded(module: dict[str, Any]) -> bool:
    loaded = sys.modules.get(module.get("__name__", ""))
    return getattr(loaded, "__dict__", None) is module
