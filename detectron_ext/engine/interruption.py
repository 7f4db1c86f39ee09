"""Ctrl-C, SIGTERM and SIGHUP that take effect at the end of an iteration."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interruption:
    """A context in which Ctrl-C, SIGTERM or SIGHUP sets ``requested``. A second one stops at once.

    SIGHUP arrives when the terminal is closed. ``nohup`` ignores it, and so does this class then.
    It has an effect only in the main thread, because Python handles signals only there.

    Attributes:
        requested: whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
