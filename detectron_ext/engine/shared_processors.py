"""Fewer threads while other programs use the processors.

The threads of an operator wait for the last one of them. If another program has its processor, all
wait until the system lets it run again, many times in each step. A step with as many threads as
there are free processors does not wait. The number of threads changes no bit of a result
(docs/reliability.md), so it can change during a training.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Callable

from detectron_ext.counted import counted
from detectron_ext.engine.startup import free_threads
from detectron_ext.environment import FAST_CONV
from detectron_ext.ops.library import thread_setter

if TYPE_CHECKING:
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)

_SCHEDULING = "/proc/thread-self/schedstat"
# A window is the shortest time after which paces are compared.
_WINDOW_STEPS = 3
_WINDOW_SECONDS = 1.0
# Shares of the time in which this thread could run but had no processor.
_MUCH_WAITING = 0.2
_LITTLE_WAITING = 0.1
_CLEARLY_FASTER = 0.9
# Seconds between trials. They double after each one in vain, until more or less is waited for.
_FIRST_PAUSE = 4.0
_LONGEST_PAUSE = 120.0


def seconds_waited() -> float | None:
    """Return how long this thread could have run but had no processor; None if nobody counts it."""
    try:
        with open(_SCHEDULING) as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


class SharedProcessors:
    """Finds the number of threads with which steps are fastest beside other programs.

    Half the threads are tried if this thread often waits for a processor, and twice as many from
    time to time afterwards. What is faster stays.

    Args:
        threads: the most threads, which steps begin with.
        set_threads: sets the number of threads of operators.
        now: a clock, in seconds.
        waited: as :func:`seconds_waited`.
    """

    def __init__(
        self,
        threads: int,
        set_threads: Callable[[int], None],
        now: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float | None] = seconds_waited,
    ):
        self._most = threads
        self._set = set_threads
        self._now = now
        self._waited = waited
        self.threads = threads
        self._before_trial: tuple[int, float] | None = None  # threads, seconds a step
        self._is_waiting = False
        self._pause = _FIRST_PAUSE
        self._last_trial = now()
        self._steps_with_fewer = self._steps = 0
        self._told = False
        self._begin_window()

    def after_step(self) -> None:
        """Count a step, and change the number of threads if it is time to."""
        self._steps += 1
        self._steps_with_fewer += self.threads < self._most
        self._window_steps += 1
        elapsed = self._now() - self._window_start
        if self._window_steps < _WINDOW_STEPS or elapsed < _WINDOW_SECONDS:
            return
        pace = elapsed / self._window_steps
        waiting = ((self._waited() or 0.0) - self._window_waited) / elapsed
        if self._before_trial:
            self._end_trial(pace)
        else:
            self._notice(waiting)
            if self._now() >= self._last_trial + self._pause:
                self._begin_trial(pace)
        self._begin_window()

    def end(self) -> None:
        """Set all threads again, and log how many steps had fewer, if any."""
        self._change(self._most)
        if self._steps_with_fewer:
            _LOG.info(
                "%d of %s ran with fewer than %d threads, beside other programs",
                self._steps_with_fewer, counted(self._steps, "step", "steps"), self._most,
            )  # fmt: skip

    def _begin_window(self) -> None:
        self._window_steps = 0
        self._window_start = self._now()
        self._window_waited = self._waited() or 0.0

    def _notice(self, waiting: float) -> None:
        """Note whether other programs take the processors; if that has changed, trials are due."""
        is_waiting = waiting > (_LITTLE_WAITING if self._is_waiting else _MUCH_WAITING)
        if is_waiting != self._is_waiting:
            self._is_waiting = is_waiting
            self._pause = _FIRST_PAUSE

    def _begin_trial(self, pace: float) -> None:
        if self._is_waiting and self.threads > 1:
            tried = self.threads // 2
        elif self.threads < self._most:
            tried = min(2 * self.threads, self._most)
        else:
            return
        self._before_trial = (self.threads, pace)
        self._change(tried)

    def _end_trial(self, pace: float) -> None:
        threads, pace_before = self._before_trial or (self.threads, pace)
        self._before_trial = None
        if pace < _CLEARLY_FASTER * pace_before:
            self._pause = _FIRST_PAUSE
            self._tell(pace, pace_before)
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._change(threads)
        self._last_trial = self._now()

    def _tell(self, pace: float, pace_before: float) -> None:
        if self._told or self.threads == self._most:
            return
        self._told = True
        _LOG.info(
            "other programs use the processors: %s instead of %d for now, with which a step takes "
            "%.2f s instead of %.2f. LIBRA.THREADS or OMP_NUM_THREADS fixes the number",
            counted(self.threads, "thread", "threads"), self._most, pace, pace_before,
        )  # fmt: skip

    def _change(self, threads: int) -> None:
        self.threads = threads
        self._set(threads)


class FixedThreads:
    """In place of `SharedProcessors` where the number of threads does not change."""

    def after_step(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


def shared_processors(
    model: DetectionModel, num_processes: int = 1
) -> SharedProcessors | FixedThreads:
    """Return what adapts the number of threads to other programs, if it may change.

    It is fixed if the person has set it (LIBRA.THREADS, OMP_NUM_THREADS), on GPUs, in trainings of
    several processes, with Caffe2's convolutions, whose results depend on it (LIBRA.FAST_CONV
    False), and where our library or the system's counts are missing.

    Args:
        model: the model whose steps are run.
        num_processes: number of processes that train together.
    """
    threads, set_threads = free_threads(), thread_setter()
    if threads < 2 or set_threads is None or seconds_waited() is None:
        return FixedThreads()
    leaves_to_caffe2 = model.config.LIBRA.FAST_CONV == "False" or FAST_CONV.value == "0"
    if model.num_gpus or num_processes > 1 or leaves_to_caffe2:
        return FixedThreads()
    return SharedProcessors(threads, set_threads)
