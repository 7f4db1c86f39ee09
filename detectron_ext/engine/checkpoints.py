"""The checkpoints of a run.

A run that starts anew moves the files of an earlier run away. Otherwise they could be mistaken for
its own.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from typing import NamedTuple

from detectron_ext.data.data_record import DataRecord
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import UserError, WeightsError

_LOG = logging.getLogger(__name__)
_CHECKPOINT = re.compile(r"model_iter(\d+)\.pkl")
FINAL = "model_final.pkl"
STATISTICS = "stats.jsonl"


class Checkpoint(NamedTuple):
    """The state of a run in training.

    Attributes:
        path: its weights file.
        iteration: the iteration after which it was written, from 0.
        cfg: YAML text of the configuration that it was trained with; None if not stored.
        data: digests and counts of the data that it was trained on; None if not stored.
        num_processes: number of processes that trained it.
    """

    path: str
    iteration: int
    cfg: str | None
    data: DataRecord | None = None
    num_processes: int = 1


def checkpoint_path(folder: str, iteration: int) -> str:
    """Return the path of the checkpoint after an iteration (from 0)."""
    return os.path.join(folder, f"model_iter{iteration}.pkl")


def newest_checkpoint(folder: str) -> Checkpoint | None:
    """Return the newest readable checkpoint in a run's folder; None if there is none or no folder.

    A damaged checkpoint is skipped with a warning. So a full disk costs some iterations and not the
    whole run.
    """
    found = _by_iteration(folder)
    for iteration in sorted(found, reverse=True):
        try:
            stored = read_weights(found[iteration])
        except WeightsError as error:
            _LOG.warning("skipped a damaged checkpoint: %s", error)
            continue
        return Checkpoint(
            found[iteration], iteration, stored.cfg, stored.data, stored.num_processes or 1
        )
    return None


def _by_iteration(folder: str) -> dict[int, str]:
    """Return iteration to path of the checkpoints in a folder, which may not exist."""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        match = _CHECKPOINT.fullmatch(name)
        if match:
            found[int(match.group(1))] = os.path.join(folder, name)
    return found


def remove_older(folder: str, keep: int) -> list[str]:
    """Remove the checkpoints in a folder beyond the newest ones; return the paths of the removed.

    Args:
        folder: folder of a run.
        keep: how many are kept; 0 keeps all.
    """
    found = _by_iteration(folder)
    removed = []
    for iteration in sorted(found)[: -keep or 0] if keep else ():
        with contextlib.suppress(OSError):  # it only takes room
            os.unlink(found[iteration])
            removed.append(found[iteration])
    return removed


def way_back(folder: str) -> str:
    """Return how to resume a run from before its newest checkpoint, for a message.

    The text begins with "; " and names the checkpoints. It is empty if there is none.
    """
    found = _by_iteration(folder)
    if not found:
        return ""
    newest, *before = sorted(found, reverse=True)
    then = f"resume from {os.path.basename(found[before[0]])}" if before else "start anew"
    return f"; if {found[newest]} is ruined already, remove it to {then}"


def holds_weights(folder: str) -> bool:
    """Return whether there are checkpoints or final weights in a folder."""
    return any(map(_is_weights, os.listdir(folder)))


def _is_weights(name: str) -> bool:
    return name == FINAL or _CHECKPOINT.fullmatch(name) is not None


def set_aside(folder: str) -> None:
    """Move weights and statistics in a run's folder to a new folder in it.

    The new folder is ``earlier_1`` or, if that exists, ``earlier_2`` and so on. If the
    files are moved back, they are a complete run again. A folder without weights is not changed.

    Raises:
        UserError: the files cannot be moved.
    """
    names = os.listdir(folder)
    weights = list(filter(_is_weights, names))
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
            f"cannot move the files of the earlier run to {place}: {error.strerror}; choose "
            "another OUTPUT_DIR"
        ) from error
    _LOG.info("training starts anew: the files of the earlier run were moved to %s", place)
