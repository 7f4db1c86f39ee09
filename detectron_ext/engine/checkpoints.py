"""Which weights a run starts from: its newest checkpoint, else TRAIN.WEIGHTS.

A run that starts anew sets an earlier one's files aside: theirs would be taken for its own.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from typing import NamedTuple

from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import UserError, WeightsError
from detectron_ext.local_files import local_file

_LOG = logging.getLogger(__name__)
_CHECKPOINT = re.compile(r"model_iter(\d+)\.pkl")
FINAL = "model_final.pkl"
STATISTICS = "stats.jsonl"


class Checkpoint(NamedTuple):
    """The state of a run in training.

    Attributes:
        path: its weights file.
        iteration: that after which it was written, 0-based.
        cfg: YAML text of the configuration it was trained with, if stored.
    """

    path: str
    iteration: int
    cfg: str | None


def checkpoint_path(folder: str, iteration: int) -> str:
    """Where the state after an iteration (0-based) is saved."""
    return os.path.join(folder, f"model_iter{iteration}.pkl")


def newest_checkpoint(folder: str) -> Checkpoint | None:
    """The newest readable checkpoint of a run; None where there is none.

    A damaged one is passed over with a warning, so that a full disk costs some iterations and not
    the run.
    """
    found = {}
    for name in os.listdir(folder):
        match = _CHECKPOINT.fullmatch(name)
        if match:
            found[int(match.group(1))] = os.path.join(folder, name)
    for iteration in sorted(found, reverse=True):
        try:
            cfg = read_weights(found[iteration]).cfg
        except WeightsError as error:
            _LOG.warning("passing over a checkpoint: %s", error)
            continue
        return Checkpoint(found[iteration], iteration, cfg)
    return None


def set_aside(folder: str) -> None:
    """Move the weights in a run's folder, if any, and their statistics to a new folder in it.

    Moved back they are what they were. The new folder is ``earlier_1``, else ``earlier_2``, ...

    Raises:
        UserError: they cannot be moved.
    """
    names = os.listdir(folder)
    weights = [name for name in names if name == FINAL or _CHECKPOINT.fullmatch(name)]
    if not weights:
        return
    places = (os.path.join(folder, f"earlier_{number}") for number in itertools.count(1))
    place = next(path for path in places if not os.path.lexists(path))
    try:
        os.mkdir(place)
        for name in weights + [name for name in names if name == STATISTICS]:
            os.rename(os.path.join(folder, name), os.path.join(place, name))
    except OSError as error:
        raise UserError(
            f"cannot move the earlier run's files to {place}: {error.strerror}; choose another "
            "OUTPUT_DIR"
        ) from error
    _LOG.info("training starts anew: the earlier run's files are in %s now", place)


def local_weights(path: str) -> str:
    """Check that a weights setting names a file on this machine.

    Raises:
        WeightsError: for a URL (nothing is downloaded) or a missing file.
    """
    advice = "set TRAIN.WEIGHTS or TEST.WEIGHTS to the file (TRAIN.WEIGHTS '' trains from scratch)"
    return local_file(path, "weights", advice, WeightsError)
