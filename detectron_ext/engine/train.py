"""The training loop: build, load, step, report, save."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from typing import TYPE_CHECKING, Callable

import numpy as np
from caffe2.python import core, workspace

from detectron_ext import config as configuration
from detectron_ext.config import Config, is_retinanet
from detectron_ext.config.unused_keys import warn_of_unused_keys
from detectron_ext.counted import by_number, counted
from detectron_ext.data.loader import WaitStopped
from detectron_ext.engine.checkpoints import (
    FINAL,
    STATISTICS,
    Checkpoint,
    checkpoint_path,
    holds_weights,
    newest_checkpoint,
    remove_older,
    set_aside,
    way_back,
)
from detectron_ext.engine.interruption import Interruption
from detectron_ext.engine.learning_rate import learning_rate
from detectron_ext.engine.memory_estimate import check_training_memory
from detectron_ext.engine.not_finite import NotFinite, NotFiniteSteps, slower
from detectron_ext.engine.parameters import (
    broadcast_parameters,
    feed,
    load_parameters,
    not_finite_parameters,
    save_parameters,
)
from detectron_ext.engine.process_group import ProcessGroup
from detectron_ext.engine.rendezvous import LostByInterruption, LostProcess
from detectron_ext.engine.shared_processors import shared_processors
from detectron_ext.engine.start_weights import load_start_weights
from detectron_ext.engine.statistics import NoStatistics, TrainingStatistics
from detectron_ext.engine.step_nets import StepNets
from detectron_ext.engine.tensorboard_events import EventFile
from detectron_ext.engine.trained_data import warn_of_changed_data, warn_of_changed_files
from detectron_ext.engine.trained_settings import check_checkpoint, check_final
from detectron_ext.engine.training_data import TrainingMinibatches, open_loader
from detectron_ext.errors import Interrupted, UserError, WeightsError
from detectron_ext.modeling import build_model
from detectron_ext.modeling.devices import replica, replica_scopes
from detectron_ext.output_files import remove_temporaries
from detectron_ext.output_lock import locked_folder
from detectron_ext.sampling.retinanet_targets import weighs_by_predictions
from detectron_ext.sampling.sampling_statistics import counts_blob

if TYPE_CHECKING:
    from detectron_ext.config.settings import SolverSettings
    from detectron_ext.data.data_record import DataRecord
    from detectron_ext.data.loader import MinibatchLoader
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)


def train(
    config: Config,
    check_classes: Callable[[list], None] | None = None,
    group: ProcessGroup | None = None,
) -> str:
    """Train a model.

    With TRAIN.AUTO_RESUME training resumes from the newest checkpoint in the folder, if there is
    one. The checkpoint must have been trained with the settings of this configuration. Exception: a
    resumed run may change SOLVER; a warning is logged, and from then on the learning rate follows
    the new schedule. Final weights that are renamed to a checkpoint can be resumed, too.

    With TRAIN.AUTO_RESUME False training starts anew. Weights and statistics in the folder are
    moved to ``earlier_1``, ``earlier_2``, ... in it.

    Args:
        config: a merged configuration.
        check_classes: a function that is called before the first step with the class names of the
            training data, background first. It raises UserError if they cannot be used.
        group: the processes that train together, joined; None for this process alone. Process 0
            reads and writes all files but the data sets.

    Returns:
        Path of the final weights, ``<OUTPUT_DIR>/train/<datasets>/<type>/model_final.pkl``.

    Raises:
        UserError: data, weights or configuration are wrong; the loss, the norm of the gradients or
            a parameter is not finite; the folder holds weights of other settings, or of an
            iteration after SOLVER.MAX_ITER; or training was interrupted, after a checkpoint was
            saved.
        LostProcess: another process of the group has ended.
    """
    group = group or ProcessGroup()
    find = configuration.future_output_dir if group.is_first else configuration.run_folder
    folder = find(config, config.TRAIN.DATASETS, training=True)
    final = os.path.join(folder, FINAL)
    if group.of_first("finished", config.TRAIN.AUTO_RESUME and os.path.exists(final)):
        if group.is_first:
            warn_of_changed_files(config, final, check_final(config, final).data)
            _LOG.info("%s exists: nothing to train", final)
        return final
    with contextlib.ExitStack() as locks:
        if group.is_first and os.path.isdir(folder):
            locks.enter_context(locked_folder(folder))
        return _train(config, folder, locks, check_classes, group)


def _train(
    config: Config,
    folder: str,
    locks: contextlib.ExitStack,
    check_classes: Callable[[list], None] | None,
    group: ProcessGroup,
) -> str:
    """Train a model; see :func:`train`.

    Args:
        config: a merged configuration.
        folder: folder of the run. If it does not exist, it is made when all inputs have been read.
        locks: holds the lock of the folder until the training ends.
        check_classes, group: as of :func:`train`.
    """
    final = os.path.join(folder, FINAL)
    is_new = not os.path.isdir(folder)
    resume, solver = _checkpoint_to_resume(config, folder, group)
    start_iter = group.of_first("start", resume.iteration + 1 if resume else 0)
    workspace.ResetWorkspace()
    model = build_model(config, train=True, num_processes=group.count)
    warn_of_unused_keys(config)
    _say_what_each_process_counts(config, group)
    minibatches = TrainingMinibatches(config)
    if check_classes:
        check_classes(minibatches.classes)
    check_training_memory(model, minibatches.records, group.local_processes())
    group.check_data(minibatches.data)
    if resume:
        warn_of_changed_data(resume.path, resume.data, minibatches.data)
    save = functools.partial(
        _save_finite, model, classes=minibatches.classes, data=minibatches.data
    )
    with open_loader(
        minibatches, config, max(1, model.num_gpus), start_iter, group.number, group.count
    ) as loader:
        group.connect(model)
        _initialise(model, resume, minibatches.classes, group)
        if resume:
            _LOG.info("resuming from %s at iteration %d", resume.path, start_iter)
            # The momenta were accumulated at this rate. They are rescaled if the next rate is very
            # different.
            _set_rate(model, learning_rate(solver, start_iter - 1))
        group.share_state(model)
        # All inputs have been read. An error in one of them has left no empty folder.
        if group.is_first:
            _prepare_folder(config, folder, is_new, locks)
        with Interruption() as interruption:
            _run_steps(model, minibatches, loader, start_iter, folder, save, interruption, group)
            if group.is_first:
                save(final)
    if interruption.requested:
        raise _interrupted(config, final)
    if group.is_first:
        _LOG.info("trained weights: %s", final)
    return final


def _say_what_each_process_counts(config: Config, group: ProcessGroup) -> None:
    """Log what is computed over the images of each process and not over the whole minibatch."""
    if group.count == 1 or not group.is_first:
        return
    weights = config.LIBRA.RETINANET_WEIGHTS
    if is_retinanet(config) and weighs_by_predictions(config) and weights.TOTAL == "batch":
        _LOG.info(
            "LIBRA.RETINANET_WEIGHTS.TOTAL batch: the weights of each process's positives are "
            "scaled by themselves; TOTAL image does not depend on the number of processes"
        )
    if config.MODEL.FASTER_RCNN:
        _LOG.info(
            "TRAIN.RPN_POST_NMS_TOP_N %d proposals are kept of the images of each process",
            config.TRAIN.RPN_POST_NMS_TOP_N,
        )


def _prepare_folder(config: Config, folder: str, is_new: bool, locks: contextlib.ExitStack) -> None:
    """Make and lock the folder of a run, and move what is in its way."""
    configuration.output_dir(config, config.TRAIN.DATASETS, training=True)
    if is_new:
        locks.enter_context(locked_folder(folder))
        _check_still_new(folder)
    remove_temporaries(folder)
    if not config.TRAIN.AUTO_RESUME:
        set_aside(folder)


def _check_still_new(folder: str) -> None:
    """Raise UserError if another process has trained in the folder while the data were read."""
    if holds_weights(folder):
        raise UserError(
            f"another process has trained in {folder} meanwhile: repeat the command, or set "
            "OUTPUT_DIR to another folder"
        )


def _checkpoint_to_resume(
    config: Config, folder: str, group: ProcessGroup
) -> tuple[Checkpoint | None, SolverSettings]:
    """Return the newest checkpoint, or None, and the SOLVER that it was trained with.

    Processes other than the first find none. They get the state of the first one.
    """
    reads = group.is_first and config.TRAIN.AUTO_RESUME
    checkpoint = newest_checkpoint(folder) if reads else None
    if not checkpoint:
        return None, config.SOLVER
    solver = check_checkpoint(config, checkpoint)
    if checkpoint.num_processes != group.count:
        _LOG.warning(
            "training resumes from %s with %s, was %d: an iteration reads %s from now on",
            checkpoint.path, counted(group.count, "process", "processes"),
            checkpoint.num_processes, counted(group.count * config.TRAIN.IMS_PER_BATCH, "image"),
        )  # fmt: skip
    return checkpoint, solver


def _initialise(
    model: DetectionModel, resume: Checkpoint | None, classes: list, group: ProcessGroup
) -> None:
    """Fill the parameters at random; process 0 overwrites them from a file if there is one."""
    workspace.RunNetOnce(model.param_init_net)
    if not group.is_first:
        return
    if resume:
        try:
            load_parameters(model, resume.path)
        except WeightsError as error:
            raise WeightsError(f"{error}{way_back(os.path.dirname(resume.path))}") from error
    elif model.config.TRAIN.WEIGHTS:
        load_start_weights(model, classes)
    broadcast_parameters(model)


def _run_steps(
    model: DetectionModel,
    data: TrainingMinibatches,
    loader: MinibatchLoader,
    start_iter: int,
    folder: str,
    save: Callable[[str], None],
    interruption: Interruption,
    group: ProcessGroup,
) -> None:
    """Train from iteration start_iter to the end, or until interrupted.

    Args:
        model: a training model, initialised.
        data: tells the images of a minibatch.
        loader: gives the minibatches of each iteration.
        start_iter: first iteration.
        folder: folder of the run.
        save: a function that writes a checkpoint to a path.
        interruption: its ``requested`` is checked after each iteration, and while there is nothing
            to train on.
        group: the processes that train together. Process 0 alone writes files.
    """
    config = model.config
    stats = _open_statistics(model, folder, start_iter) if group.is_first else NoStatistics()
    nets = StepNets(model)
    skipped = int(group.broadcast([stats.total_skipped])[0])
    not_finite = NotFiniteSteps(model, data, folder, skipped)
    processors = shared_processors(model, group.count)
    save_state = functools.partial(_save_state, stats, config, folder, save, group)
    started = time.perf_counter()
    with contextlib.closing(stats):
        for iteration in range(start_iter, config.SOLVER.MAX_ITER):
            stats.start_step()
            minibatches = _next_minibatches(
                loader, iteration, folder, save_state, interruption, group, config
            )
            try:
                with group.stepping(interruption.requested):
                    _step(model, nets, minibatches, iteration, first=iteration == start_iter)
            except LostProcess as error:
                raise _lost(error, iteration, folder, save_state, group, config) from error
            except NotFinite as error:
                not_finite.skip(error, iteration, minibatches)
                stats.skip()
            else:
                scalars, counts = _fetch_scalars(model), _fetch_sampling_counts(model)
                stats.update(scalars, loader.queue_size, counts)
            stats.log(iteration, float(learning_rate(config.SOLVER, iteration)))
            processors.after_step()
            if group.stops(interruption.requested):
                raise _interrupted(config, save_state(iteration))
            if _is_snapshot(model, iteration):
                save_state(iteration)
    not_finite.report()
    processors.end()
    steps = config.SOLVER.MAX_ITER - start_iter
    _LOG.info("%d iterations in %.0f s", steps, time.perf_counter() - started)


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


def _lost(
    error: LostProcess,
    iteration: int,
    folder: str,
    save_state: Callable[[int], str],
    group: ProcessGroup,
    config: Config,
) -> UserError:
    """Return the error for another process that ended in an iteration.

    The step has changed no parameter, so process 0 saves the state after the iteration before.
    """
    if not group.is_first:
        return LostProcess(f"{error}; {_same_command(config)} resumes from process 0's checkpoint")
    if not iteration:
        return LostProcess(f"{error}; nothing was trained yet")
    path = checkpoint_path(folder, iteration - 1)
    if not os.path.exists(path):
        save_state(iteration - 1)
    if isinstance(error, LostByInterruption):
        return _interrupted(config, path)
    return LostProcess(f"{error}; saved {path}: {_same_command(config)} resumes from there")


def _save_finite(
    model: DetectionModel, path: str, classes: list[str], data: DataRecord | None
) -> None:
    """Save a model, unless its last step made parameters that are not finite.

    A step may do so although its loss was finite. The loss of the next step would tell it, but
    there is no next step before a checkpoint or at the end.
    """
    broken = not_finite_parameters(model)
    if broken:
        raise UserError(
            f"{counted(len(broken), 'parameter')} {by_number(len(broken), 'is', 'are')} not finite "
            f"after the last step, first {broken[0]}: "
            f"{slower(model.config)}; {os.path.basename(path)} was not written"
        )
    save_parameters(model, path, classes=classes, data=data)


def _interrupted(config: Config, path: str) -> Interrupted:
    return Interrupted(f"interrupted: saved {path}; {_same_command(config)} resumes from there")


def _same_command(config: Config) -> str:
    """Return the words for the command that resumes a training."""
    anew = "" if config.TRAIN.AUTO_RESUME else " without TRAIN.AUTO_RESUME False"
    return f"the same command{anew}"


def _save_state(
    stats: TrainingStatistics | NoStatistics,
    config: Config,
    folder: str,
    save: Callable[[str], None],
    group: ProcessGroup,
    iteration: int,
) -> str:
    """Write the line of statistics and the checkpoint of an iteration; return its path.

    A process that resumes from the checkpoint removes all later lines. So the line of this
    iteration must hold the times and counts up to it. Processes other than the first write nothing.
    """
    path = checkpoint_path(folder, iteration)
    if not group.is_first:
        return path
    stats.log(iteration, float(learning_rate(config.SOLVER, iteration)), at_checkpoint=True)
    save(path)
    keep = config.LIBRA.TRAIN.KEEP_CHECKPOINTS
    removed = remove_older(folder, keep)
    if removed:
        names = ", ".join(map(os.path.basename, removed))
        _LOG.info("removed %s: LIBRA.TRAIN.KEEP_CHECKPOINTS keeps %d", names, keep)
    return path


def _next_minibatches(
    loader: MinibatchLoader,
    iteration: int,
    folder: str,
    save_state: Callable[[int], str],
    interruption: Interruption,
    group: ProcessGroup,
    config: Config,
) -> list:
    """Return the minibatches of an iteration.

    If an image is unreadable, or a signal arrives while there is nothing to train on, a checkpoint
    of the iteration before is saved first. The read may block for ever, so that a signal does not
    wait for it.
    """
    last = checkpoint_path(folder, iteration - 1)
    try:
        return loader.next(lambda: interruption.requested)
    except UserError:
        if group.is_first and iteration and not os.path.exists(last):
            _LOG.info("saved %s", save_state(iteration - 1))
        raise
    except WaitStopped:
        if not iteration:
            raise Interrupted("interrupted before the first iteration: nothing to save") from None
        path = last if os.path.exists(last) else save_state(iteration - 1)
        raise _interrupted(config, path) from None


def _is_snapshot(model: DetectionModel, iteration: int) -> bool:
    """Return whether a checkpoint is due: TRAIN.SNAPSHOT_ITERS counts over all replicas."""
    replicas = max(1, model.num_gpus) * model.num_processes
    period = max(1, model.config.TRAIN.SNAPSHOT_ITERS // replicas)
    done = iteration + 1
    return done % period == 0 and done < model.config.SOLVER.MAX_ITER


def _step(
    model: DetectionModel, nets: StepNets, minibatches: list[dict], iteration: int, first: bool
) -> None:
    """Feed one minibatch to each replica, compute the gradients and apply them.

    Raises:
        NotFinite: the losses or the gradients are not finite. No parameter has changed.
    """
    for index, blobs in enumerate(minibatches):
        for name, value in blobs.items():
            feed(model, index, name, value)
    if first:
        nets.create()
    nets.compute_gradients()
    fault = nets.not_finite(also_gradients=model.config.LIBRA.TRAIN.SKIP_NONFINITE > 0)
    if fault:
        raise NotFinite(fault)
    _set_rate(model, learning_rate(model.config.SOLVER, iteration))
    nets.apply_gradients()


def _set_rate(model: DetectionModel, rate: np.float32) -> None:
    """Set the learning rate, and rescale the momenta if it jumps.

    Caffe2's momenta are past gradients times the rates of their time. Without rescaling, they would
    continue to act at the old rate after a jump (SOLVER.SCALE_MOMENTUM).
    """
    solver = model.config.SOLVER
    scopes = replica_scopes(model.num_gpus)
    old = float(workspace.FetchBlob(scopes[0] + "lr")[0])
    if old == rate:
        return
    for index in range(len(scopes)):
        feed(model, index, "lr", np.array([rate], dtype=np.float32))
    if not solver.SCALE_MOMENTUM or old <= 1e-7:  # there is no rate before the first step
        return
    ratio = max(rate / old, old / rate) if rate > 1e-7 else 1.0
    if ratio <= solver.SCALE_MOMENTUM_THRESHOLD:
        return
    _LOG.debug("learning rate %.6f -> %.6f: rescaling the momenta", old, rate)
    for index, scope in enumerate(scopes):
        with replica(index, model.num_gpus):
            for param in model.trainable_params(scope):
                momentum = param + "_momentum"
                workspace.RunOperatorOnce(
                    core.CreateOperator("Scale", [momentum], [momentum], scale=float(rate / old))
                )


def _fetch_scalars(model: DetectionModel) -> dict[str, float]:
    """Return the losses, summed over replicas, and the metrics, averaged over replicas."""
    scopes = replica_scopes(model.num_gpus)
    values = {}
    for name in [*model.losses, *model.metrics]:
        per_replica = [workspace.FetchBlob(scope + name) for scope in scopes]
        total = float(np.sum([np.ravel(value)[0] for value in per_replica]))
        values[name] = total if name in model.losses else total / len(scopes)
    return values


def _fetch_sampling_counts(model: DetectionModel) -> dict[str, np.ndarray]:
    """Return the counts of each sampler in this step, summed over replicas."""
    scopes = replica_scopes(model.num_gpus)
    return {
        name: np.sum([workspace.FetchBlob(scope + counts_blob(name)) for scope in scopes], axis=0)
        for name in model.samplers
    }
