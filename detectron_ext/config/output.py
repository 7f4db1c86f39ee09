"""Where a run writes."""

from __future__ import annotations

import os
from typing import Iterable

from detectron_ext.config.tree import Config
from detectron_ext.errors import UserError


def output_dir(config: Config, datasets: str | Iterable[str], training: bool) -> str:
    """Return, and create, the folder of a run's files, laid out as upstream's.

    Args:
        config: OUTPUT_DIR and MODEL.TYPE are used.
        datasets: one data set's name or several, joined with colons.
        training: whether the run trains on them or tests on them.

    Returns:
        ``<OUTPUT_DIR>/<train or test>/<data sets>/<MODEL.TYPE>``.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    names = datasets if isinstance(datasets, str) else ":".join(datasets)
    phase = "train" if training else "test"
    folder = os.path.join(config.OUTPUT_DIR, phase, names, config.MODEL.TYPE)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(folder, "no permission")
    return folder


def _not_writable(folder: str, reason: str) -> UserError:
    return UserError(
        f"cannot write to the output folder {folder}: {reason}; set OUTPUT_DIR to another folder"
    )
