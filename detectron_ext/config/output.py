"""Where a run writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable

from detectron_ext.output_files import make_writable_folder

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings


def output_dir(config: Settings, datasets: str | Iterable[str], training: bool) -> str:
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
    make_writable_folder(folder, "to the output folder", "set OUTPUT_DIR to another folder")
    return folder
