"""Parts that are made once for a run, although upstream calls a function for each minibatch."""

from __future__ import annotations

import copy
import threading
from typing import Any, Callable, Generic, TypeVar

Part = TypeVar("Part")

# The nodes that a part may be made from. They hold plain values, which `==` can compare.
_NODES = ("MODEL", "TRAIN", "RPN", "FPN", "RETINANET", "LIBRA")


class MadeOnce(Generic[Part]):
    """Makes a part from upstream's ``cfg`` when it is first needed, and then keeps it.

    Upstream's ``cfg`` is global and can be changed, for example between two trainings in one
    process. If one of the nodes in _NODES has changed, the part is made again. Threads may share
    the instance.

    Args:
        make: a function (cfg) -> part.
    """

    def __init__(self, make: Callable[[Any], Part]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: tuple[Any, dict, Part] | None = None

    def of(self, cfg: Any) -> Part:
        """Return the part for a configuration."""
        with self._lock:
            values = {node: cfg[node] for node in _NODES}
            if self._kept is None or self._kept[0] is not cfg or self._kept[1] != values:
                # A copy, because the nodes can be changed in place.
                self._kept = cfg, copy.deepcopy(_plain(values)), self._make(cfg)
            return self._kept[2]


def _plain(value: Any) -> Any:
    """Return nested maps as dicts: upstream's own class cannot be copied."""
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return value
