"""A loader whose threads prepare minibatches ahead of the training."""

from __future__ import annotations

import threading
from typing import Any, Callable, Generic, Iterator, TypeVar

T = TypeVar("T")


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

    def next(self) -> T:
        """Wait for the next iteration's minibatch and return it.

        Raises:
            StopIteration: all minibatches were returned.
            RuntimeError: the loader is closed.
            Exception: the exception that ``make_minibatch`` raised for this iteration.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed or self._to_return == self._stop or self._to_return in self._ready
                )
            )
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

    @property
    def queue_size(self) -> int:
        """Number of minibatches that are ready."""
        with self._changed:
            return len(self._ready)

    def close(self) -> None:
        """Stop the threads after the minibatches that are being made. May be called twice."""
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
