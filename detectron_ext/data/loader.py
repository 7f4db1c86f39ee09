"""A loader whose threads prepare minibatches ahead of the training."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Generic, Iterator, TypeVar

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

# How often a waiting loop looks whether it is to stop, and when a wait is worth a line; seconds.
_LOOK_SECONDS, _LONG_SECONDS = 0.2, 60.0
# How long `close` waits for its threads, all together. They need less unless a read blocks.
_CLOSE_SECONDS = 5.0


class WaitStopped(Exception):
    """The wait for a minibatch was given up."""


class MinibatchLoader(Generic[T]):
    """Makes minibatches in threads and returns them in the order of their iterations.

    The minibatches depend only on ``make_minibatch``, not on the number of threads or their timing.
    Use the loader as a context manager, or call :meth:`close`.

    Args:
        make_minibatch: a function of an iteration number. It is called from several threads at
            once, and must give the same minibatch for the same number.
        num_threads: number of threads (DATA_LOADER.NUM_THREADS), at least 1.
        capacity: largest number of minibatches that are ready or being made, at least 1.
        start: first iteration.
        stop: iteration after the last; None for no end.

    Raises:
        ValueError: num_threads or capacity is below 1.
    """

    def __init__(
        self,
        make_minibatch: Callable[[int], T],
        num_threads: int,
        capacity: int,
        start: int = 0,
        stop: int | None = None,
    ):
        if num_threads < 1 or capacity < 1:
            raise ValueError("needs at least one thread and room for one minibatch")
        self._make_minibatch = make_minibatch
        self._capacity = capacity
        # A run that is resumed after its end has nothing to make.
        self._stop = None if stop is None else max(start, stop)
        self._to_make = start
        self._to_return = start
        self._closed = False
        self._changed = threading.Condition()
        # Iteration to (minibatch, None), or to (None, the exception that was raised).
        self._ready: dict[int, tuple[Any, BaseException | None]] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"minibatch-{n}", daemon=True)
            for n in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def next(self, stops: Callable[[], bool] = lambda: False) -> T:
        """Wait for the next iteration's minibatch and return it.

        A wait of a minute is logged once: a read that blocks, as of a hung network disk, has no
        other sign.

        Args:
            stops: a function that is asked several times a second while there is nothing to
                return. The wait ends when it returns True.

        Raises:
            StopIteration: all minibatches were returned.
            WaitStopped: ``stops`` returned True. The same minibatch can be asked for again.
            RuntimeError: the loader is closed.
            Exception: the exception that ``make_minibatch`` raised for this iteration.
        """
        with self._changed:
            self._wait(stops)
            if self._to_return == self._stop:
                raise StopIteration
            if self._closed:
                raise RuntimeError("the minibatch loader is closed")
            minibatch, error = self._ready.pop(self._to_return)
            self._to_return += 1
            self._changed.notify_all()
        if error is not None:
            raise error
        return minibatch

    def _wait(self, stops: Callable[[], bool]) -> None:
        """Wait until there is something to return; the lock is held."""
        said, started = False, time.monotonic()
        while not self._changed.wait_for(self._has_next, _LOOK_SECONDS):
            if stops():
                raise WaitStopped
            if not said and time.monotonic() - started > _LONG_SECONDS:
                said = True
                _LOG.warning(
                    "waiting for the images of iteration %d for %.0f s: does their disk answer?",
                    self._to_return,
                    _LONG_SECONDS,
                )

    def _has_next(self) -> bool:
        return self._closed or self._to_return == self._stop or self._to_return in self._ready

    @property
    def queue_size(self) -> int:
        """Number of minibatches that are ready."""
        with self._changed:
            return len(self._ready)

    def close(self) -> None:
        """Stop the threads after the minibatches that are being made. May be called twice.

        A thread whose read blocks is left behind after a few seconds, and a line says so. It ends
        with the process.
        """
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        end = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = [thread for thread in self._threads if thread.is_alive()]
        if left:
            _LOG.warning(
                "%d threads that read images do not end: they are left behind; does the disk of "
                "the images answer?",
                len(left),
            )

    def __iter__(self) -> Iterator[T]:
        return self

    __next__ = next

    def __enter__(self) -> MinibatchLoader[T]:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _work(self) -> None:
        iteration = self._claim()
        while iteration is not None:
            result: tuple[Any, BaseException | None]
            try:
                result = (self._make_minibatch(iteration), None)
            except BaseException as error:  # next() raises it in the training loop
                result = (None, error)
            with self._changed:
                if not self._closed:
                    self._ready[iteration] = result
                self._changed.notify_all()
            iteration = self._claim()

    def _claim(self) -> int | None:
        """Wait until there is room and return the next iteration to make; None after the last."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or self._to_make == self._stop
                    or self._to_make < self._to_return + self._capacity
                )
            )
            if self._closed or self._to_make == self._stop:
                return None
            iteration = self._to_make
            self._to_make += 1
            return iteration
