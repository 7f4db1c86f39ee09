"""Warnings that the data of a run have changed since its weights were trained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectron_ext.config import reads_proposals
from detectron_ext.data.data_record import DataRecord, changes, data_record, file_record
from detectron_ext.data.records import training_records
from detectron_ext.errors import UserError

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)


def warn_of_changed_data(path: str, stored: DataRecord | None, now: DataRecord) -> None:
    """Log a warning if a checkpoint was trained on other data than those it is resumed with.

    Args:
        path: the checkpoint.
        stored: the digests and counts in it; None if it has none.
        now: those of the data that were read.
    """
    if not _is_stored(path, stored):
        return
    assert stored is not None
    for change in changes(stored, now):
        _LOG.warning(
            "the data have changed since %s was trained: %s; training goes on with those of today",
            path,
            change,
        )


def warn_of_changed_files(config: Settings, path: str, stored: DataRecord | None) -> None:
    """Log a warning if the files of the training data are not those of final weights.

    The data sets are only read if a file has changed, for the counts in the message.

    Args:
        config: a merged configuration.
        path: the final weights, which are used unchanged.
        stored: the digests and counts in them; None if they have none.
    """
    if not _is_stored(path, stored):
        return
    assert stored is not None
    files = config.TRAIN.PROPOSAL_FILES if reads_proposals(config) else None
    try:
        now = file_record(config, files)
    except UserError as error:  # the data may lie on another machine
        _LOG.warning("the data of %s cannot be compared with those of today: %s", path, error)
        return
    if not changes(stored, now):
        return
    try:
        records, _ = training_records(config.TRAIN.DATASETS, config, files)
        now = data_record(config, files, records)
    except UserError as error:
        _LOG.warning("the training data cannot be read: %s", error)
    for change in changes(stored, now):
        _LOG.warning(
            "the data have changed since %s was trained: %s; the weights are used unchanged, and "
            "TRAIN.AUTO_RESUME False trains them anew",
            path,
            change,
        )


def _is_stored(path: str, stored: DataRecord | None) -> bool:
    if stored is None:
        _LOG.info("%s holds no digest of its training data: they are not compared", path)
    return stored is not None
