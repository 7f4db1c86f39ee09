"""The loop over the iterations of a training: step, report, save."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Callable

from detectron_ext.data.loader import WaitStopped
from detectron_ext.engine.checkpoints import STATISTICS, checkpoint_path, remove_older
from detectron_ext.engine.learning_rate import learning_rate
from detectron_ext.engine.not_finite import NotFinite, NotFiniteSteps
from detectron_ext.engine.rendezvous import LostByInterruption, LostProcess
from detectron_ext.engine.shared_processors import shared_processors
from detectron_ext.engine.statistics import NoStatistics, TrainingStatistics
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.engine.tensorboard_events import EventFile
from detectron_ext.engine.training_step import fetch_sampling_counts, fetch_scalars, step
from detectron_ext.errors import Interrupted, UserError

if TYPE_CHECKING:
    from detectron_ext.config import Config
    from detectron_ext.data.loader import MinibatchLoader
    from detectron_ext.engine.interruption import Interruption
    from detectron_ext.engine.process_group import ProcessGroup
    from detectron_ext.engine.training_data import TrainingMinibatches
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)

# A larger share of the time that waits for images is worth a word; the first images always take a
# moment, which is a large share of a short training.
_MOST_WAITING, _FEWEST_STEPS = 0.05, 100


class TrainingLoop:
    """Trains an initialised model from an iteration to the end, or until it is interrupted."""

    def __init__(
        self,
        model: DetectionModel,
        data: TrainingMinibatches,
        loader: MinibatchLoader,
        folder: str,
        save: Callable[[str], None],
        interruption: Interruption,
        group: ProcessGroup,
    ):
        """Remember what a training works with.

        Args:
            model: a training model, initialised.
            data: tells the images of a minibatch.
            loader: gives the minibatches of each iteration, from the first one of :meth:`run`.
            folder: folder of the run.
            save: a function that writes a checkpoint to a path.
            interruption: its ``requested`` is checked after each iteration, and while there is
                nothing to train on.
            group: the processes that train together. Process 0 alone writes files.
        """
        self._model, self._config = model, model.config
        self._data, self._loader = data, loader
        self._folder, self._save = folder, save
        self._interruption, self._group = interruption, group
        self._statistics: TrainingStatistics | NoStatistics = NoStatistics()

    def run(self, start_iter: int) -> None:
        """Train from iteration start_iter on.

        Raises:
            Interrupted: a signal arrived; a checkpoint was saved.
            UserError: an image is unreadable, or the loss or a gradient is not finite.
            LostProcess: another process of the group has ended.
        """
        config, group = self._config, self._group
        if group.is_first:
            self._statistics = _open_statistics(self._model, self._folder, start_iter)
        nets = StepNets(self._model)
        skipped = int(group.broadcast([self._statistics.total_skipped])[0])
        not_finite = NotFiniteSteps(self._model, self._data, self._folder, skipped)
        processors = shared_processors(self._model, group.count)
        started = time.perf_counter()
        with contextlib.closing(self._statistics):
            for iteration in range(start_iter, config.SOLVER.MAX_ITER):
                self._iterate(nets, not_finite, iteration, first=iteration == start_iter)
                processors.after_step()
                if group.stops(self._interruption.requested):
                    raise interrupted(config, self._save_state(iteration))
                if _is_snapshot(self._model, iteration):
                    self._save_state(iteration)
        not_finite.report()
        processors.end()
        steps, seconds = config.SOLVER.MAX_ITER - start_iter, time.perf_counter() - started
        _LOG.info("%s", time_in_words(steps, seconds, self._statistics.total_waited))

    def _iterate(
        self, nets: StepNets, not_finite: NotFiniteSteps, iteration: int, first: bool
    ) -> None:
        """Make one step, and count and log what it gave."""
        statistics, model = self._statistics, self._model
        statistics.start_step()
        minibatches = self._next_minibatches(iteration)
        statistics.end_waiting()
        try:
            with self._group.stepping(self._interruption.requested):
                step(model, nets, minibatches, iteration, first)
        except LostProcess as error:
            raise self._lost(error, iteration) from error
        except NotFinite as error:
            not_finite.skip(error, iteration, minibatches)
            statistics.skip()
        else:
            scalars, counts = fetch_scalars(model), fetch_sampling_counts(model)
            statistics.update(scalars, self._loader.queue_size, counts)
        statistics.log(iteration, float(learning_rate(self._config.SOLVER, iteration)))

    def _next_minibatches(self, iteration: int) -> list:
        """Return the minibatches of an iteration.

        If an image is unreadable, or a signal arrives while there is nothing to train on, a
        checkpoint of the iteration before is saved first. The read may block for ever, so that a
        signal does not wait for it.
        """
        last = checkpoint_path(self._folder, iteration - 1)
        try:
            return self._loader.next(lambda: self._interruption.requested)
        except UserError:
            if self._group.is_first and iteration and not os.path.exists(last):
                _LOG.info("saved %s", self._save_state(iteration - 1))
            raise
        except WaitStopped:
            if not iteration:
                raise Interrupted(
                    "interrupted before the first iteration: nothing to save"
                ) from None
            path = last if os.path.exists(last) else self._save_state(iteration - 1)
            raise interrupted(self._config, path) from None

    def _lost(self, error: LostProcess, iteration: int) -> UserError:
        """Return the error for another process that ended in an iteration.

        The step has changed no parameter, so process 0 saves the state after the iteration before.
        """
        again = _same_command(self._config)
        if not self._group.is_first:
            return LostProcess(f"{error}; {again} resumes from process 0's checkpoint")
        if not iteration:
            return LostProcess(f"{error}; nothing was trained yet")
        path = checkpoint_path(self._folder, iteration - 1)
        if not os.path.exists(path):
            self._save_state(iteration - 1)
        if isinstance(error, LostByInterruption):
            return interrupted(self._config, path)
        return LostProcess(f"{error}; saved {path}: {again} resumes from there")

    def _save_state(self, iteration: int) -> str:
        """Write the line of statistics and the checkpoint of an iteration; return its path.

        A process that resumes from the checkpoint removes all later lines. So the line of this
        iteration must hold the times and counts up to it. Processes other than the first write
        nothing.
        """
        path = checkpoint_path(self._folder, iteration)
        if not self._group.is_first:
            return path
        rate = float(learning_rate(self._config.SOLVER, iteration))
        self._statistics.log(iteration, rate, at_checkpoint=True)
        self._save(path)
        keep = self._config.LIBRA.TRAIN.KEEP_CHECKPOINTS
        removed = remove_older(self._folder, keep)
        if removed:
            names = ", ".join(map(os.path.basename, removed))
            _LOG.info("removed %s: LIBRA.TRAIN.KEEP_CHECKPOINTS keeps %d", names, keep)
        return path


def time_in_words(steps: int, seconds: float, waited: float) -> str:
    """Return a line about the time of a training, and which key changes a long wait for images."""
    share = waited / max(seconds, 1e-9)
    text = f"{steps} iterations in {seconds:.0f} s, {100 * share:.0f} % of them waiting for images"
    if share > _MOST_WAITING and steps >= _FEWEST_STEPS:
        text += ": more threads may read them faster (DATA_LOADER.NUM_THREADS)"
    return text


def _open_statistics(model: DetectionModel, folder: str, start_iter: int) -> TrainingStatistics:
    config = model.config
    return TrainingStatistics(
        model.losses,
        model.metrics,
        config.SOLVER.MAX_ITER,
        config.LIBRA.LOG_PERIOD,
        os.path.join(folder, STATISTICS),
        start_iter,
        config.LIBRA.CLIP_GRADIENTS,
        EventFile(folder, start_iter) if config.LIBRA.TENSORBOARD else None,
        count_skipped=config.LIBRA.TRAIN.SKIP_NONFINITE > 0,
    )


def interrupted(config: Config, path: str) -> Interrupted:
    """Return the error of a training that a signal has ended after a checkpoint was saved."""
    return Interrupted(f"interrupted: saved {path}; {_same_command(config)} resumes from there")


def _same_command(config: Config) -> str:
    """Return the words for the command that resumes a training."""
    anew = "" if config.TRAIN.AUTO_RESUME else " without TRAIN.AUTO_RESUME False"
    return f"the same command{anew}"


def _is_snapshot(model: DetectionModel, iteration: int) -> bool:
    """Return whether a checkpoint is due: TRAIN.SNAPSHOT_ITERS counts over all replicas."""
    replicas = max(1, model.num_gpus) * model.num_processes
    period = max(1, model.config.TRAIN.SNAPSHOT_ITERS // replicas)
    done = iteration + 1
    return done % period == 0 and done < model.config.SOLVER.MAX_ITER
