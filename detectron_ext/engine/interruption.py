"""Ctrl-C and SIGTERM at the end of an iteration instead of in its middle."""

from __future__ import annotations

import signal
import threading


class Interruption:
    """While active, remembers that a stop was asked for; a second Ctrl-C stops at once.

    Signals only reach the main thread; elsewhere (in tests, in notebooks' workers) it does nothing.
    """

    def __init__(self):
        self.requested = False
        self._previous: dict = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
