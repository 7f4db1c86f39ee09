"""Checks that the weights in a run's folder were trained with the settings of this run."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from detectron_ext import config as configuration
from detectron_ext.config import Config
from detectron_ext.config.keys import KEYS
from detectron_ext.engine.checkpoints import Checkpoint, checkpoint_path
from detectron_ext.engine.weights_file import Weights, read_weights
from detectron_ext.errors import ConfigError, UserError, WeightsError
from detectron_ext.modeling.devices import available_gpus

if TYPE_CHECKING:
    from detectron_ext.config.settings import SolverSettings

_LOG = logging.getLogger(__name__)

# These may differ, with a warning: images are moved, and machines have different numbers of GPUs.
_ANY_PLACE = re.compile(r"NUM_GPUS|DATASETS_EXTRA\..*\.im_dir")
# Files are moved, too, and Detectron stores the path of a download instead of its URL. Only the
# names of the files are compared.
_FILES = re.compile(r"TRAIN\.(WEIGHTS|PROPOSAL_FILES)|DATASETS_EXTRA\..*\.ann_fn")


class _Difference(NamedTuple):
    """A key whose value differs from the one that the weights were trained with.

    Attributes:
        key: configuration key.
        stored: value in the weights file.
        wanted: value in this run's configuration.
    """

    key: str
    stored: Any
    wanted: Any

    @property
    def is_place(self) -> bool:
        if _FILES.fullmatch(self.key):
            return _same_files(self.stored, self.wanted)
        return _ANY_PLACE.fullmatch(self.key) is not None

    @property
    def is_schedule(self) -> bool:
        return self.key.startswith("SOLVER.")


def check_final(config: Config, path: str) -> Weights:
    """Check that final weights were trained with the settings of this configuration.

    Exception: the number of GPUs and the folders of data and weights may differ; a warning names
    them. A file with another name counts as another file.

    Args:
        config: a merged configuration.
        path: a weights file. If it holds no configuration that can be read, nothing is compared,
            and a warning is logged.

    Returns:
        The content of the file.

    Raises:
        UserError: a setting differs; the message names the first one.
        WeightsError: the file cannot be read.
    """
    try:
        weights = read_weights(path)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; remove {path} to train on from the newest checkpoint in its folder, or anew "
            "if there is none"
        ) from error
    differences = _differences(config, path, weights.cfg)
    decisive = [difference for difference in differences if not difference.is_place]
    if decisive:
        stored, wanted = _max_iters(decisive)
        train_on = ""
        if 0 < stored < wanted and all(difference.is_schedule for difference in decisive):
            name = os.path.basename(checkpoint_path("", stored - 1))
            train_on = f"to continue its training, rename it to {name}; otherwise "
        test = f"test it unchanged with TEST.WEIGHTS {path}"
        raise _refusal(path, decisive[0], test, train_on)
    _warn(differences, f"{path} was trained with other settings and is used unchanged")
    return weights


def check_checkpoint(config: Config, checkpoint: Checkpoint) -> SolverSettings:
    """Check that a checkpoint can be resumed with this configuration.

    All settings must be those that it was trained with. Exception: SOLVER, the number of GPUs and
    the folders of data and weights may differ; a warning names them. A file with another name
    counts as another file.

    Returns:
        The SOLVER section that the checkpoint was trained with or, if that is not known, this
        configuration's.

    Raises:
        UserError: another setting differs (the message names the first one), or the checkpoint is
            at or after SOLVER.MAX_ITER.
    """
    path, iteration, cfg = checkpoint.path, checkpoint.iteration, checkpoint.cfg
    differences = _differences(config, path, cfg)
    for difference in differences:
        if not (difference.is_place or difference.is_schedule):
            raise _refusal(path, difference)
    if iteration >= config.SOLVER.MAX_ITER:
        raise UserError(
            f"{path} was written after {iteration + 1} iterations, but SOLVER.MAX_ITER is "
            f"{config.SOLVER.MAX_ITER}: raise it, choose another OUTPUT_DIR, or remove the file"
        )
    _warn(differences, f"training resumes from {path} with other settings")
    return _stored_solver(config, differences)


def _stored_solver(config: Config, differences: list[_Difference]) -> SolverSettings:
    pairs = [(key, stored) for key, stored, _ in differences if key.startswith("SOLVER.")]
    try:
        return config.with_overrides(part for pair in pairs for part in pair).SOLVER
    except ConfigError:  # a schedule that Detectron accepts and this project does not
        return config.SOLVER


def _warn(differences: list[_Difference], what: str) -> None:
    if differences:
        changes = (f"{key} {wanted!r}, was {stored!r}" for key, stored, wanted in differences)
        _LOG.warning("%s: %s", what, "; ".join(changes))


def _refusal(path: str, difference: _Difference, test: str = "", train_on: str = "") -> UserError:
    key, stored, wanted = difference
    ways = ["choose another OUTPUT_DIR", f"remove {os.path.dirname(path)}"]
    ways += ["set TRAIN.AUTO_RESUME False", *([test] if test else [])]
    return UserError(
        f"{path} was trained with {key} {stored!r}, but now it is {wanted!r}: "
        f"{train_on}{', '.join(ways[:-1])}, or {ways[-1]}"
    )


def _max_iters(differences: list[_Difference]) -> tuple[int, int]:
    """Return SOLVER.MAX_ITER as (stored, wanted); (0, 0) if they are equal."""
    found = [(d.stored, d.wanted) for d in differences if d.key == "SOLVER.MAX_ITER"]
    return found[0] if found and isinstance(found[0][0], int) else (0, 0)


def _differences(config: Config, path: str, cfg: str | None) -> list[_Difference]:
    """Return the decisive keys that differ, in alphabetical order.

    If the file lacks a key (it is Detectron's or of an older version), the key had its default.
    """
    if cfg is None:
        _LOG.warning("%s holds no settings: they are not compared", path)
        return []
    try:
        stored = configuration.flat_legacy_settings(cfg)
    except ConfigError as error:
        _LOG.warning("%s: its settings cannot be compared: %s", path, error)
        return []
    stored = {**configuration.flat_settings(configuration.load()), **stored}
    wanted = configuration.flat_settings(config)
    extras = tuple(f"DATASETS_EXTRA.{name}." for name in config.TRAIN.DATASETS)
    return [
        _Difference(key, stored[key], value)
        for key, value in sorted(wanted.items())
        if (KEYS[key].affects_weights if key in KEYS else key.startswith(extras))
        # A data set may be defined elsewhere. Then its keys are not stored, and they have no
        # default.
        if key in stored and _as_used(key, stored[key]) != _as_used(key, value)
    ]


def _same_files(stored: Any, wanted: Any) -> bool:
    """Return whether paths or URLs, or lists of them, have the same file names; "" is no file."""
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_same_files, stored, wanted))
    if not (isinstance(stored, str) and isinstance(wanted, str)):
        return False
    return os.path.basename(stored) == os.path.basename(wanted) != ""


def _as_used(key: str, value: Any) -> Any:
    """Return a value as it takes effect here: NUM_GPUS is at most what there is, and at least 1."""
    if key != "NUM_GPUS" or not isinstance(value, int):
        return value
    return max(1, min(value, available_gpus()))
