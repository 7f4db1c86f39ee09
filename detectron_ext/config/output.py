"""Where a run writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable

from detectron_ext.output_files import check_writable_folder, make_writable_folder

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


_WHAT, _ADVICE = "to the output folder", "set OUTPUT_DIR to another folder"


def run_folder(config: Settings, datasets: str | Iterable[str], training: bool) -> str:
    """Return the path of the folder of a run's files, laid out as upstream's; nothing is made.

    Args:
        config: OUTPUT_DIR and MODEL.TYPE are used.
        datasets: one data set's name or several, joined with colons.
        training: whether the run trains on them or tests on them.

    Returns:
        ``<OUTPUT_DIR>/<train or test>/<data sets>/<MODEL.TYPE>``.
    """
    names = datasets if isinstance(datasets, str) else ":".join(datasets)
    phase = "train" if training else "test"
    return os.path.join(config.OUTPUT_DIR, phase, names, config.MODEL.TYPE)


def future_output_dir(config: Settings, datasets: str | Iterable[str], training: bool) -> str:
    """Return the path of `run_folder` after checking that the folder can be written or made.

    Call this before the inputs of a run are read, and `output_dir` when they have been checked. So
    a wrong input leaves no empty folder.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    folder = run_folder(config, datasets, training)
    check_writable_folder(folder, _WHAT, _ADVICE)
    return folder


def output_dir(config: Settings, datasets: str | Iterable[str], training: bool) -> str:
    """Return the path of `run_folder` after making the folder.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    folder = run_folder(config, datasets, training)
    make_writable_folder(folder, _WHAT, _ADVICE)
    return folder
