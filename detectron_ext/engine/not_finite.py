"""Steps whose losses or gradients are not finite: kept for repeating, skipped, or the end."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

import numpy as np

from detectron_ext.array_pickle import write_pickle
from detectron_ext.counted import counted
from detectron_ext.engine.checkpoints import way_back
from detectron_ext.engine.parameters import weights_of
from detectron_ext.engine.weights_file import read_content
from detectron_ext.errors import UserError, WeightsError

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings
    from detectron_ext.engine.training_data import TrainingMinibatches
    from detectron_ext.modeling.model import DetectionModel

_LOG = logging.getLogger(__name__)
KEPT = "not_finite.pkl"
_MOST_NAMED = 8


class NotFinite(Exception):
    """A loss or a gradient of a step is not finite. Parameters and momenta have not changed."""


class KeptStep(NamedTuple):
    """What a training keeps of a step that is not finite.

    Attributes:
        iteration: its number, from 0.
        fault: what was not finite.
        images: paths of its images.
        minibatches: input blobs of each replica, by name.
    """

    iteration: int
    fault: str
    images: list[str]
    minibatches: list[dict[str, np.ndarray]]


class NotFiniteSteps:
    """Keeps steps that are not finite, and counts those that are skipped.

    Args:
        model: the training model.
        minibatches: tells the images of a minibatch.
        folder: folder of the run.
        num_skipped: number of steps that earlier processes of the run have skipped.

    Attributes:
        num_skipped: number of skipped steps of the whole run.
    """

    def __init__(
        self,
        model: DetectionModel,
        minibatches: TrainingMinibatches,
        folder: str,
        num_skipped: int,
    ):
        self._model, self._minibatches, self._folder = model, minibatches, folder
        self.num_skipped = num_skipped

    def skip(self, error: NotFinite, iteration: int, blobs: Sequence[dict]) -> None:
        """Keep a step, and count it as skipped.

        Args:
            error: what is not finite.
            iteration: number of the step, from 0.
            blobs: input blobs of each replica.

        Raises:
            UserError: LIBRA.TRAIN.SKIP_NONFINITE steps have been skipped before.
        """
        config = self._model.config
        images = self._images(iteration, len(blobs) * self._model.num_processes)
        kept = self._keep(KeptStep(iteration, str(error), images, list(blobs)))
        message = f"{error} at iteration {iteration}, in the minibatch of {_listing(images)}{kept}"
        most = config.LIBRA.TRAIN.SKIP_NONFINITE
        if self.num_skipped >= most:
            before = f"; {counted(most, 'step')} before it were skipped" if most else ""
            raise UserError(f"{message}{before}: {slower(config)}{way_back(self._folder)}")
        self.num_skipped += 1
        limit = f"{self.num_skipped} of LIBRA.TRAIN.SKIP_NONFINITE {most}"
        _LOG.warning("skipped a step (%s): %s", limit, message)

    def report(self) -> None:
        """Log the number of skipped steps at the end of a training."""
        if self.num_skipped:
            steps = counted(self.num_skipped, "step was", "steps were")
            _LOG.warning("%s skipped because a loss or a gradient was not finite", steps)

    def _images(self, iteration: int, num_replicas: int) -> list[str]:
        """Return the images of a step; the replicas are those of all processes."""
        first = iteration * num_replicas
        numbers = range(first, first + num_replicas)
        return [path for number in numbers for path in self._minibatches.images(number)]

    def _keep(self, step: KeptStep) -> str:
        """Write the step with the weights; return where, for the message."""
        if self._model.num_processes > 1:  # this process has only its part of the minibatch
            return f" (not kept: {self._model.num_processes} processes trained it)"
        path = os.path.join(self._folder, KEPT)
        weights = weights_of(self._model, self._minibatches.classes, self._minibatches.data)
        content = {key: value for key, value in weights._asdict().items() if value is not None}
        try:
            write_pickle(path, {**content, "step": step._asdict()})
        except UserError as error:
            return f" (not kept: {error})"
        return f" (kept in {path} for tools/replay_minibatch.py)"


def read_kept_step(path: str) -> KeptStep:
    """Read the step of a file that a training has kept; the file holds weights, too.

    Raises:
        WeightsError: the file cannot be read, or holds no step.
    """
    content = read_content(path)
    step = content.get("step")
    if not (isinstance(step, dict) and set(step) == set(KeptStep._fields)):
        raise WeightsError(f"{path} holds no step: give a {KEPT} that a training has written")
    kept = KeptStep(**step)
    if not _is_valid(kept):
        raise WeightsError(f"{path} is damaged: its step is not one that a training has written")
    return kept


def _is_valid(step: KeptStep) -> bool:
    types: list[tuple[Any, type]] = [
        (step.iteration, int), (step.fault, str), (step.images, list), (step.minibatches, list)
    ]  # fmt: skip
    return (
        all(type(value) is expected for value, expected in types)
        and all(isinstance(image, str) for image in step.images)
        and len(step.minibatches) > 0
        and all(isinstance(blobs, dict) and _are_arrays(blobs) for blobs in step.minibatches)
    )


def _are_arrays(blobs: dict) -> bool:
    return all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in blobs.items())


def slower(config: Settings) -> str:
    """Return the advice to train more slowly."""
    return (
        f"lower SOLVER.BASE_LR ({config.SOLVER.BASE_LR}) or warm up longer (SOLVER.WARM_UP_ITERS)"
    )


def _listing(images: Sequence[str]) -> str:
    names = ", ".join(images[:_MOST_NAMED])
    more = len(images) - _MOST_NAMED
    return f"{names} and {more} more" if more > 0 else names
