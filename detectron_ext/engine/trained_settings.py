"""Whether weights that lie in a run's folder were trained with the settings it asks for."""

from __future__ import annotations

import logging
import os
import re
from typing import Any, NamedTuple

from detectron_ext import config as configuration
from detectron_ext.config.keys import KEYS
from detectron_ext.engine.checkpoints import Checkpoint, checkpoint_path
from detectron_ext.engine.weights_file import read_weights
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.modeling.devices import available_gpus

_LOG = logging.getLogger(__name__)

# What differs here is said, and may: images move, and machines have their own number of GPUs.
_ANY_PLACE = re.compile(r"NUM_GPUS|DATASETS_EXTRA\..*\.im_dir")
# Files move too, and Detectron stores the path of a download in place of its address; but one of
# another name is another file.
_FILES = re.compile(r"TRAIN\.(WEIGHTS|PROPOSAL_FILES)|DATASETS_EXTRA\..*\.ann_fn")


class _Difference(NamedTuple):
    """A key whose value is not the one that weights were trained with."""

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


def check_final(config, path: str) -> None:
    """Refuse to take final weights of other settings for this configuration's.

    The number of GPUs and the folders of data and weights may differ, with a warning that names
    them; a file of another name is another file.

    Args:
        config: a merged configuration.
        path: a weights file; without a configuration that can be read in it, it passes, with a
            warning.

    Raises:
        UserError: naming the first key that differs.
        WeightsError: the file cannot be read.
    """
    differences = _differences(config, path, read_weights(path).cfg)
    decisive = [difference for difference in differences if not difference.is_place]
    if decisive:
        stored, wanted = _max_iters(decisive)
        train_on = ""
        if stored < wanted and all(difference.is_schedule for difference in decisive):
            name = os.path.basename(checkpoint_path("", stored - 1))
            train_on = f"to train it on, rename it to {name}; else "
        test = f", or test it as it is with TEST.WEIGHTS {path}"
        raise _refusal(path, decisive[0], test, train_on)
    _warn(differences, f"{path} was trained with other settings and is taken as it is")


def check_checkpoint(config, checkpoint: Checkpoint):
    """Refuse to resume what this configuration does not lead on from.

    SOLVER, the number of GPUs and the folders of data and weights may differ, with a warning that
    names them; a file of another name is another file.

    Returns:
        The SOLVER section that the checkpoint was trained with; this configuration's where that is
        not known.

    Raises:
        UserError: naming the first other key that differs, or the checkpoint where it is of an
            iteration after SOLVER.MAX_ITER.
    """
    path, iteration, cfg = checkpoint
    differences = _differences(config, path, cfg)
    for difference in differences:
        if not (difference.is_place or difference.is_schedule):
            raise _refusal(path, difference)
    if iteration >= config.SOLVER.MAX_ITER:
        raise UserError(
            f"{path} has {iteration + 1} iterations behind it, and SOLVER.MAX_ITER is "
            f"{config.SOLVER.MAX_ITER}: raise that, choose another OUTPUT_DIR, or remove the file"
        )
    _warn(differences, f"{path} goes on with other settings")
    return _stored_solver(config, differences)


def _stored_solver(config, differences: list):
    pairs = [(key, stored) for key, stored, _ in differences if key.startswith("SOLVER.")]
    try:
        return config.with_overrides(part for pair in pairs for part in pair).SOLVER
    except ConfigError:  # a schedule that Detectron takes and this project refuses
        return config.SOLVER


def _warn(differences: list, what: str) -> None:
    if differences:
        changes = (f"{key} {wanted!r}, was {stored!r}" for key, stored, wanted in differences)
        _LOG.warning("%s: %s", what, "; ".join(changes))


def _refusal(path: str, difference: _Difference, test: str = "", train_on: str = "") -> UserError:
    key, stored, wanted = difference
    return UserError(
        f"{path} was trained with {key} {stored!r}, and now it is {wanted!r}: {train_on}choose "
        f"another OUTPUT_DIR, remove {os.path.dirname(path)}, set TRAIN.AUTO_RESUME False{test}"
    )


def _max_iters(differences: list) -> tuple:
    """SOLVER.MAX_ITER as stored and as wanted; (0, 0) where it is the same."""
    found = [(d.stored, d.wanted) for d in differences if d.key == "SOLVER.MAX_ITER"]
    return found[0] if found and isinstance(found[0][0], int) else (0, 0)


def _differences(config, path: str, cfg: str | None) -> list[_Difference]:
    """Decisive keys that differ, in alphabetical order.

    A key that the file lacks, of Detectron's or of an older version, had its default.
    """
    if cfg is None:
        _LOG.warning("%s does not hold its settings: they are not compared", path)
        return []
    try:
        stored = configuration.flat_legacy_settings(cfg)
    except ConfigError as error:
        _LOG.warning("%s: its settings are not compared: %s", path, error)
        return []
    stored = {**configuration.flat_settings(configuration.load()), **stored}
    wanted = configuration.flat_settings(config)
    extras = tuple(f"DATASETS_EXTRA.{name}." for name in config.TRAIN.DATASETS)
    return [
        _Difference(key, stored[key], value)
        for key, value in sorted(wanted.items())
        if (KEYS[key].affects_weights if key in KEYS else key.startswith(extras))
        # A data set may be known by other means: then nothing is stored, and it has no default.
        if key in stored and _as_used(key, stored[key]) != _as_used(key, value)
    ]


def _same_files(stored: Any, wanted: Any) -> bool:
    """Whether paths or URLs, or lists of them, end in the same names; "" is no file."""
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_same_files, stored, wanted))
    if not (isinstance(stored, str) and isinstance(wanted, str)):
        return False
    return os.path.basename(stored) == os.path.basename(wanted) != ""


def _as_used(key: str, value: Any) -> Any:
    """The value, as far as it counts here: no more GPUs than there are, and the CPU for one."""
    if key != "NUM_GPUS" or not isinstance(value, int):
        return value
    return max(1, min(value, available_gpus()))
