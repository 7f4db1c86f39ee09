"""Event files of a training run, which TensorBoard shows."""

from __future__ import annotations

import os
import time
from typing import Any, Mapping

from detectron_ext.errors import UserError
from detectron_ext.optional_packages import import_optional

FOLDER = "tensorboard"
"""Folder of the event files, in the folder of the training."""

_RUN = (
    "lr", "time", "seconds", "cpu_seconds", "wait_seconds", "mem", "mb_qsize", "clipped_steps",
    "skipped_steps",
)  # fmt: skip
_NEEDED_BY = "LIBRA.TENSORBOARD True"


class EventFile:
    """Writes numbers to a new event file; the earlier ones in the folder stay.

    Args:
        folder: folder of the training.
        start_iter: first iteration of this process. TensorBoard drops the numbers of this and later
            iterations that an earlier process wrote.

    Raises:
        UserError: the package tensorboard is missing, or the file cannot be written.
    """

    def __init__(self, folder: str, start_iter: int = 0):
        writer = import_optional("tensorboard.summary.writer.event_file_writer", _NEEDED_BY)
        self._events = import_optional("tensorboard.compat.proto.event_pb2", _NEEDED_BY)
        self._summaries = import_optional("tensorboard.compat.proto.summary_pb2", _NEEDED_BY)
        try:
            self._writer = writer.EventFileWriter(os.path.join(folder, FOLDER))
        except OSError as error:
            raise UserError(
                f"cannot write events to {folder}: {error.strerror or error}"
            ) from error
        if start_iter:
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._add(step=start_iter, session_log=start)

    def add(self, step: int, values: Mapping[str, Any], group: str = "") -> None:
        """Add the numbers among some values; texts are left out.

        Args:
            step: the iteration.
            values: name to value.
            group: heading in TensorBoard; "" chooses it by the name.
        """
        self._add(
            step=step,
            summary=self._summaries.Summary(
                value=[
                    self._summaries.Summary.Value(
                        tag=f"{group or _group(name)}/{name}", simple_value=value
                    )
                    for name, value in values.items()
                    if isinstance(value, (int, float)) and name != "iter"
                ]
            ),
        )

    def _add(self, **content: Any) -> None:
        self._writer.add_event(self._events.Event(wall_time=time.time(), **content))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()


def _group(name: str) -> str:
    if name in _RUN:
        return "run"
    return "losses" if "loss" in name or name.startswith("fl_") else "sampling"
