"""Parts that are chosen by name in a configuration, and that anyone can add to.

A registry is a mapping from names to parts of one kind, such as box losses. It stands in the module
of its part, and its docstring there says what an entry must be. Our own parts are registered in the
same way as a user's:

    from detectron_ext.modeling.balanced_pyramid import REFINEMENTS

    @REFINEMENTS.register("squeeze")
    def refine_squeeze(model, blob, dim):
        ...

A configuration whose LIBRA.IMPORTS names that file can then set LIBRA.BFP.REFINE_TYPE squeeze.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, Mapping, TypeVar

from detectron_ext.errors import ConfigError, choice_error

if TYPE_CHECKING:
    from typing import Protocol as Protocol
else:
    # typing.Protocol is newer than Python 3.7. Nothing needs it at run time.
    Protocol = object

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """A mapping from names to parts, in the order in which they were registered.

    Attributes:
        key: the configuration key that selects an entry, for messages.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Return a decorator that registers a function, class or object under ``name``.

        Raises:
            ConfigError: the name is not text, is empty, or is already registered to another part.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{self.key}: a part's name must be text, given {name!r}")

        def add(part: Part) -> Part:
            if name in self._parts:
                raise ConfigError(
                    f"{self.key}: {name!r} is registered already; choose another name"
                )
            self._parts[name] = part
            return part

        return add

    def choose(self, name: str) -> Part:
        """Return the part registered under ``name``.

        Raises:
            ConfigError: there is no such part; the message lists the names and guesses one.
        """
        if name not in self._parts:
            raise choice_error(self.key, self._parts, name)
        return self._parts[name]

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
