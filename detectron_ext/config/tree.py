"""The loaded configuration: nested, read-only, with its keys as attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, NoReturn

import numpy as np

from detectron_ext.config.keys import default_tree
from detectron_ext.config.merge import merge_map, merge_overrides
from detectron_ext.config.paths import expand_paths
from detectron_ext.config.validate import infer, validate
from detectron_ext.errors import ConfigError

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

    _Settings = Settings
else:
    _Settings = object


class ConfigNode(dict):
    """A section: a dict that cannot be changed. Its keys can be read as attributes, too.

    A list in it is not protected, because lists keep upstream's type. Copy a list to change it.
    """

    def __init__(self, values: dict) -> None:
        super().__init__((key, _frozen(value)) for key, value in values.items())

    if not TYPE_CHECKING:  # mypy takes the keys from Settings, and finds those that do not exist

        def __getattr__(self, name: str) -> Any:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(f"the configuration has no key {name} here") from None

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise AttributeError("a loaded configuration cannot be changed; use with_overrides")

    __setattr__ = __delattr__ = __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __eq__(self, other: object) -> bool:
        """Compare as dicts do. Arrays are equal if all their elements are."""
        if not isinstance(other, dict):
            return NotImplemented
        return self.keys() == other.keys() and all(_same(self[key], other[key]) for key in self)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple:
        # Otherwise pickle would rebuild the dict item by item, which is refused.
        return type(self), (dict(self),)

    def copy(self) -> dict:
        """Return an ordinary nested dict that may be changed, arrays and lists copied."""
        return {key: _thawed(value) for key, value in self.items()}


class Config(ConfigNode, _Settings):
    """A whole configuration, complete and valid; made by ``config.load``."""

    @classmethod
    def build(
        cls, layers: Iterable[tuple[dict, str]] = (), overrides: Iterable[Any] = ()
    ) -> Config:
        """Merge maps, then overrides, into the defaults.

        Args:
            layers: pairs of a nested map and where it comes from, weakest first.
            overrides: flat list of keys and values, merged last.

        Raises:
            ConfigError: an unknown key, a wrong type, a value out of range, a contradiction.
        """
        tree = default_tree()
        for given, source in layers:
            merge_map(tree, given, source)
        merge_overrides(tree, overrides, "the overrides")
        return cls._finish(tree)

    def with_overrides(self, overrides: Iterable[Any]) -> Config:
        """Return a new configuration with some keys changed, given as in ``load``.

        Values that follow from other keys (RPN.RPN_ON, TEST.PRECOMPUTED_PROPOSALS) are inferred
        again. As in upstream, a value that was inferred before stays. Nothing is imported, because
        the overrides may come from a stored configuration.

        Raises:
            ConfigError: as ``load``; or LIBRA.IMPORTS would change.
        """
        tree = self.copy()
        merge_overrides(tree, overrides, "the overrides")
        if tree["LIBRA"]["IMPORTS"] != self.LIBRA.IMPORTS:
            raise ConfigError(
                "LIBRA.IMPORTS takes effect when a configuration is loaded: set it there"
            )
        return self._finish(tree)

    @classmethod
    def _finish(cls, tree: dict) -> Config:
        infer(tree)
        expand_paths(tree)
        validate(tree)
        return cls(tree)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return value if isinstance(value, ConfigNode) else ConfigNode(value)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, ConfigNode):
        return value.copy()
    if isinstance(value, list):
        return [_thawed(element) for element in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and np.array_equal(left, right)
    return bool(left == right)
