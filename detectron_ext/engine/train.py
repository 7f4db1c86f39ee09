"""Training: build the model, load what it starts from, train, save."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import TYPE_CHECKING, Callable

from caffe2.python import workspace

from detectron_ext import config as configuration
from detectron_ext.config import Config, is_retinanet
from detectron_ext.config.unused_keys import warn_of_unused_keys
from detectron_ext.counted import by_number, counted
from detectron_ext.engine.checkpoints import (
    FINAL,
    Checkpoint,
    holds_weights,
    newest_checkpoint,
    set_aside,
    way_back,
)
from detectron_ext.engine.interruption import Interruption
from detectron_ext.engine.learning_rate import learning_rate
from detectron_ext.engine.memory_estimate import check_training_memory
from detectron_ext.engine.not_finite import slower
from detectron_ext.engine.parameters import (
    broadcast_parameters,
    load_parameters,
    not_finite_parameters,
    save_parameters,
)
from detectron_ext.engine.process_group import ProcessGroup
from detectron_ext.engine.start_weights import load_start_weights
from detectron_ext.engine.trained_data import warn_of_changed_data, warn_of_changed_files
from detectron_ext.engine.trained_settings import check_checkpoint, check_final
from detectron_ext.engine.training_data import TrainingMinibatches, open_loader
from detectron_ext.engine.training_loop import TrainingLoop, interrupted
from detectron_ext.engine.training_step import set_rate
from detectron_ext.errors import UserError, WeightsError
from detectron_ext.modeling import build_model
from detectron_ext.output_files import remove_temporaries
from detectron_ext.output_lock import locked_folder
from detectron_ext.sampling.retinanet_targets import weighs_by_predictions

if TYPE_CHECKING:
    from detectron_ext.config.settings import SolverSettings
    from detectron_ext.data.data_record import DataRecord
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
            set_rate(model, learning_rate(solver, start_iter - 1))
        group.share_state(model)
        # All inputs have been read. An error in one of them has left no empty folder.
        if group.is_first:
            _prepare_folder(config, folder, is_new, locks)
        with Interruption() as interruption:
            loop = TrainingLoop(model, minibatches, loader, folder, save, interruption, group)
            loop.run(start_iter)
            if group.is_first:
                save(final)
    if interruption.requested:
        raise interrupted(config, final)
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
