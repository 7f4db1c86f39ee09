"""Threads that make minibatches ahead of the network."""

from __future__ import annotations

import threading
from typing import Any, Callable, Generic, Iterator, TypeVar

T = TypeVar("T")


class MinibatchLoader(Generic[T]):
    """Makes minibatches in threads and hands them out strictly in iteration order.

    What comes out depends on ``make_minibatch`` alone, never on the number of threads or their
    timing. Use it as a context manager, or call :meth:`close`.

    Args:
        make_minibatch: called with an iteration number, from several threads at once; the same
            number must give the same minibatch.
        num_threads: DATA_LOADER.NUM_THREADS, at least 1.
        capacity: how many minibatches may be ready or in the making, at least 1.
        start: first iteration.
        stop: iteration after the last; None never ends.
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
        # A run that is resumed past its end has nothing to make.
        self._stop = None if stop is None else max(start, stop)
        self._to_make = start
        self._to_return = start
        self._closed = False
        self._changed = threading.Condition()
        # Iteration -> (minibatch, None) or (None, what making it raised).
        self._ready: dict[int, tuple[Any, BaseException | None]] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"minibatch-{n}", daemon=True)
            for n in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> T:
        """Return the next iteration's minibatch, waiting for it if need be.

        Raises:
            StopIteration: all were returned.
            RuntimeError: the loader is closed.
            Whatever ``make_minibatch`` raised for this iteration.
        """
        with self._changed:
            if self._to_return == self._stop:
                raise StopIteration
            self._changed.wait_for(lambda: self._closed or self._to_return in self._ready)
            if self._closed:
                raise RuntimeError("the minibatch loader is closed")
            minibatch, error = self._ready.pop(self._to_return)
            self._to_return += 1
            self._changed.notify_all()
        if error is not None:
            raise error
        return minibatch

    @property
    def queue_size(self) -> int:
        """How many minibatches stand ready."""
        with self._changed:
            return len(self._ready)

    def close(self) -> None:
        """Stop the threads, waiting only for minibatches in the making. May be called twice."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    __next__ = next

    def __enter__(self) -> MinibatchLoader[T]:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _work(self) -> None:
        iteration = self._claim()
        while iteration is not None:
            result: tuple[Any, BaseException | None]
            try:
                result = (self._make_minibatch(iteration), None)
            except BaseException as error:  # next() raises it where someone can see it
                result = (None, error)
            with self._changed:
                if not self._closed:
                    self._ready[iteration] = result
                self._changed.notify_all()
            iteration = self._claim()

    def _claim(self) -> int | None:
        """Wait for room, then take the next iteration to make; None when there is no more."""
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
