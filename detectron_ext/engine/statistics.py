"""Reports of a training run: json_stats lines as Detectron prints them, and a progress line."""

from __future__ import annotations

import collections
import datetime
import json
import logging
import math
import os
import resource
import sys
import time
from typing import Any, Iterable

import numpy as np
from tqdm import tqdm

from detectron_ext.engine.tensorboard_events import EventFile
from detectron_ext.errors import UserError
from detectron_ext.input_files import open_input
from detectron_ext.limits import MAX_JSON_BYTES
from detectron_ext.modeling.gradient_clipping import NORM as GRADIENT_NORM
from detectron_ext.output_files import write_text
from detectron_ext.sampling.negative_statistics import summarise_negatives
from detectron_ext.sampling.negative_weights import NEGATIVES
from detectron_ext.sampling.sampling_statistics import summarise_counts
from detectron_ext.sampling.weight_statistics import WEIGHTS, summarise_weights
from detectron_ext.standard_output import discard_output

_LOG = logging.getLogger(__name__)
_WINDOW = 20
_MOST_STEPS = 2**31 - 1
# Figures that are not the counts of a sampler, by their names among the samplers.
_SUMMARIES = {WEIGHTS: summarise_weights, NEGATIVES: summarise_negatives}


class TrainingStatistics:
    """Statistics of a training run: one line every ``log_period`` iterations and at checkpoints.

    Losses and metrics are medians over the last iterations, and so is ``time``, the seconds of a
    step. ``seconds``, ``cpu_seconds``, ``wait_seconds`` (for images) and the counts of the samplers
    are sums over the iterations since the last line.

    Args:
        losses: names of the losses given to :meth:`update`.
        metrics: names of the other scalars given to :meth:`update`.
        max_iter: iterations of the whole run.
        log_period: iterations between lines; checkpoints have additional lines.
        path: file that the lines are appended to, for figures and reports.
        clip_at: norm of the gradients above which they are scaled down; 0 does not limit it.
        events: file that gets the same numbers for TensorBoard; it is closed with this object.
        start_iter: first iteration of this process. Later lines of an earlier process are removed
            from the file, because their iterations are run again.
        count_skipped: whether the lines count skipped steps.

    Attributes:
        total_skipped: number of steps that the run has skipped, in earlier processes, too.
        total_waited: seconds that steps of this process have waited for their images.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(
        self,
        losses: Iterable[str],
        metrics: Iterable[str],
        max_iter: int,
        log_period: int,
        path: str,
        start_iter: int = 0,
        clip_at: float = 0.0,
        events: EventFile | None = None,
        count_skipped: bool = False,
    ) -> None:
        self._losses = tuple(losses)
        self._max_iter = max_iter
        self._log_period = log_period
        self._path = path
        lines = _forget_from(path, start_iter)
        self.total_skipped = sum(map(_skipped, lines))
        self._count_skipped, self._skipped_steps = count_skipped, 0
        self.total_waited = self._last_waited = 0.0
        names = [*self._losses, *metrics, "loss", "mb_qsize"]
        self._windows: dict[str, collections.deque] = {
            name: collections.deque(maxlen=_WINDOW) for name in names
        }
        # Name of a sampler to its counts since the last line.
        self._sampling: dict[str, np.ndarray] = {}
        self._clip_at, self._clipped_steps = clip_at, 0
        self._events = events
        self._last_iteration = start_iter - 1
        # The first steps are slower: they allocate memory. They leave this window after a while.
        self._step_seconds: collections.deque = collections.deque(maxlen=200)
        self._start = self._last_log = time.perf_counter()
        self._last_cpu = time.process_time()
        self._bar = tqdm(total=max_iter, initial=start_iter, unit="iter", disable=None)

    def start_step(self) -> None:
        """Mark the beginning of an iteration."""
        self._start = time.perf_counter()

    def end_waiting(self) -> None:
        """Mark the moment at which the iteration has its images."""
        self.total_waited += time.perf_counter() - self._start

    def update(self, values: dict, queue_size: int, sampling_counts: dict) -> float:
        """Record one iteration and return its total loss.

        Args:
            values: name without scope to value, for every loss and metric.
            queue_size: number of minibatches that are ready.
            sampling_counts: name of a sampler to the counts of its draw, in the layout of
                `sampling.sampling_statistics`; "weights" and "negatives" to the figures of
                `sampling.weight_statistics` and `sampling.negative_statistics`.
        """
        self._step_seconds.append(time.perf_counter() - self._start)
        total = float(sum(values[name] for name in self._losses))
        for name, value in {**values, "loss": total, "mb_qsize": queue_size}.items():
            self._windows[name].append(value)
        if self._clip_at:
            self._clipped_steps += values[GRADIENT_NORM] > self._clip_at
        for name, counts in sampling_counts.items():
            # A float32 sum over many iterations could no longer be raised by 1.
            self._sampling[name] = self._sampling.get(name, 0) + counts.astype(np.float64)
        self._bar.update()
        return total

    def skip(self) -> None:
        """Record an iteration whose step was skipped."""
        self._skipped_steps += 1
        self.total_skipped += 1
        self._bar.update()

    def log(self, iteration: int, rate: float, at_checkpoint: bool = False) -> None:
        """Print and append the statistics at the end of a period, at a checkpoint and at the end.

        Args:
            iteration: the iteration that was just recorded. It gets only one line.
            rate: its learning rate.
            at_checkpoint: whether a checkpoint of this iteration is written next.

        Raises:
            UserError: the file cannot be written.
        """
        is_due = iteration % self._log_period == 0 or iteration == self._max_iter - 1
        if iteration == self._last_iteration or not (is_due or at_checkpoint):
            return
        if not self._step_seconds:
            return  # all steps were skipped: there are no losses yet, and the next line counts them
        self._last_iteration = iteration
        stats = self._stats(iteration, rate)
        self._sampling.clear()
        self._clipped_steps = self._skipped_steps = 0
        now = time.perf_counter()
        # Times since the last line. Every checkpoint has a line, so the lines that a resumed run
        # keeps add up to the time of all iterations before it. The processor time of all threads
        # measures the cost of training even if other work slows the machine down.
        stats["seconds"], self._last_log = now - self._last_log, now
        cpu = time.process_time()
        stats["cpu_seconds"], self._last_cpu = cpu - self._last_cpu, cpu
        stats["wait_seconds"] = self.total_waited - self._last_waited
        self._last_waited = self.total_waited
        _append(self._path, json.dumps(stats, sort_keys=True) + "\n")
        if self._events:
            self._events.add(iteration, stats)
        as_text = {k: f"{v:.6f}" if isinstance(v, float) else v for k, v in stats.items()}
        line = f"json_stats: {json.dumps(as_text, sort_keys=True)}"
        boxes = sum(stats[name] for name in self._losses if "bbox" in name)
        text = f"loss {stats['loss']:.3f} (box {boxes:.3f}) lr {rate:.5f}"
        self._print(line)
        if self._bar.disable:
            _LOG.info(
                "iteration %d/%d  %s  %.3f s/iter  %s left",
                iteration + 1, self._max_iter, text, stats["time"], stats["eta"],
            )  # fmt: skip
        else:
            self._bar.set_postfix_str(text)

    def _print(self, line: str) -> None:
        """Print a line. Training goes on if standard output cannot be written any more."""
        try:
            with tqdm.external_write_mode(file=sys.stdout):  # hides the bar meanwhile
                print(line, flush=True)
        except OSError as error:
            discard_output()
            _LOG.warning(
                "cannot write to standard output (%s): training goes on, and %s has all lines",
                error.strerror or error, self._path,
            )  # fmt: skip

    def _stats(self, iteration: int, rate: float) -> dict[str, Any]:
        seconds = float(np.median(list(self._step_seconds)))
        left = datetime.timedelta(seconds=int(seconds * (self._max_iter - 1 - iteration)))
        stats: dict[str, Any] = {
            name: float(np.median(list(values))) for name, values in self._windows.items()
        }
        for name, counts in self._sampling.items():
            summarise = _SUMMARIES.get(name)
            stats.update(summarise(counts) if summarise else summarise_counts(name, counts))
        if self._clip_at:
            stats["clipped_steps"] = int(self._clipped_steps)
        if self._count_skipped:
            stats["skipped_steps"] = self._skipped_steps
        stats.update(
            iter=iteration,
            lr=float(rate),
            time=seconds,
            eta=str(left),
            mb_qsize=int(stats["mb_qsize"]),
            mem=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
        return stats

    def close(self) -> None:
        """End the progress line and close the event file."""
        self._bar.close()
        if self._events:
            self._events.close()


class NoStatistics:
    """What takes the place of `TrainingStatistics` in processes that write nothing.

    Attributes:
        total_skipped, total_waited: always 0.
    """

    total_skipped = 0
    total_waited = 0.0

    def start_step(self) -> None:
        """Do nothing."""

    def end_waiting(self) -> None:
        """Do nothing."""

    def update(self, values: dict, queue_size: int, sampling_counts: dict) -> None:
        """Do nothing."""

    def skip(self) -> None:
        """Do nothing."""

    def log(self, iteration: int, rate: float, at_checkpoint: bool = False) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _forget_from(path: str, start_iter: int) -> list[str]:
    """Remove the lines after the last one of an iteration before start_iter; return the others.

    A damaged line before it stays. Without it, the sums of the other lines would look complete.
    """
    lines = _read_lines(path) if start_iter and os.path.exists(path) else []
    while lines and not _iteration(lines[-1]) < start_iter:
        lines.pop()
    # A crash while they are rewritten must not lose the lines that stay.
    write_text(path, "".join(line + "\n" for line in lines))
    return lines


def _read_lines(path: str) -> list:
    try:
        with open_input(path, MAX_JSON_BYTES) as file:
            return [line.decode("utf-8", "replace").rstrip("\n") for line in file]
    except OSError as error:
        raise UserError(f"cannot read statistics {path}: {error.strerror}") from error


def _iteration(line: str) -> float:
    """Return the iteration of a line; infinity for a damaged line, such as a crash leaves."""
    return _number(line, "iter", math.inf)


def _skipped(line: str) -> int:
    """Return the number of skipped steps of a line; 0 for a damaged line."""
    number = _number(line, "skipped_steps", 0)
    # A file may also have NaN, infinity or thousands of digits.
    return int(number) if 0 <= number <= _MOST_STEPS else 0


def _number(line: str, key: str, otherwise: float) -> float:
    try:
        number = json.loads(line)[key]
    except (ValueError, RecursionError, TypeError, KeyError):
        return otherwise
    return number if isinstance(number, (int, float)) else otherwise


def _append(path: str, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write statistics {path}: {error.strerror}") from error
