"""The folder in which the processes of one training find each other and say why they end.

Each process has a folder ``process_<number>`` in it, with a lock while it runs and small JSON files
that the others read. All of it works on one machine and on several that share the folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from typing import Any

from detectron_ext.counted import by_number
from detectron_ext.errors import Interrupted, UserError
from detectron_ext.input_files import open_input, read_text
from detectron_ext.limits import MAX_JSON_BYTES
from detectron_ext.output_files import write_json
from detectron_ext.output_lock import is_locked, locked_folder

_LOG = logging.getLogger(__name__)

# How often a waiting process looks, when it says that it waits, and when it gives up; seconds.
_LOOK_SECONDS, _SAY_SECONDS, _MOST_SECONDS = 0.1, 5.0, 1800.0
# How long a process whose connection broke looks for the reason. A process that was killed loses
# its lock when the system has freed its memory.
_REASON_SECONDS = 5.0
_ABOUT, _FAILED, _DONE = "about", "failed", "done"


class LostProcess(UserError):
    """Another process of the training has ended or does not answer."""


class LostByInterruption(Interrupted, LostProcess):
    """Another process of the training was stopped by a signal."""


class Rendezvous:
    """The shared folder, as one process sees it. Use it as a context manager.

    An error that leaves the ``with`` block is left in the folder, for the others to read.

    Args:
        folder: an existing folder that no other training has used.
        count: number of processes, at least 2.
        number: number of this process, from 0.

    Raises:
        UserError: the folder does not exist, cannot be written or was used.
    """

    def __init__(self, folder: str, count: int, number: int):
        self.count, self.number = count, number
        self.folder = folder
        self._own = self._path(number)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Rendezvous:
        with self._closing:
            self._claim()
            self._closing.enter_context(locked_folder(self._own))
            self._closing = self._closing.pop_all()
        return self

    def _claim(self) -> None:
        if not os.path.isdir(self.folder):
            raise UserError(
                f"the rendezvous folder {self.folder} does not exist: make a new empty folder that "
                "all processes share"
            )
        try:
            os.mkdir(self._own)
        except FileExistsError:
            raise UserError(
                f"the rendezvous folder {self.folder} was used by a process {self.number} before: "
                "make a new empty folder for each training"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to the rendezvous folder {self.folder}: {error.strerror}"
            ) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        with self._closing, contextlib.suppress(UserError):
            if error is None:
                self.publish(_DONE, {"ended": True})
            elif not isinstance(error, LostProcess):
                by_signal = isinstance(error, (KeyboardInterrupt, Interrupted))
                message = " ".join(str(error).split()) or type(error).__name__
                self.publish(_FAILED, {"message": message, "interrupted": by_signal})

    def publish(self, name: str, content: Any) -> None:
        """Write something that the others read, as JSON."""
        write_json(os.path.join(self._own, name + ".json"), content)

    def join(self, settings: dict[str, Any]) -> None:
        """Wait until all processes are there, and check that they have the same settings.

        Args:
            settings: plain values by name, which all processes must agree on.

        Raises:
            UserError: a setting differs from process 0's, or not all processes came in time.
            LostProcess: another process has ended.
        """
        about = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "processes": self.count,
            "settings": settings,
        }
        # The others go on only when this process has published, so who has ended now is of an
        # earlier training. Later, a process may have done its work and ended already.
        self._raise_if_ended([number for number in range(self.count) if number != self.number])
        self.publish(_ABOUT, about)
        found = self.wait_for(_ABOUT, "start")
        first = found.get(0, about)
        for number, other in sorted({**found, self.number: about}.items()):
            self._compare(number, other, first)

    def _compare(self, number: int, other: dict, first: dict) -> None:
        """Raise UserError if a process differs from process 0 in what all must agree on."""
        pairs = [("--num-shards", other["processes"], first["processes"])]
        theirs, firsts = other["settings"], first["settings"]
        names = sorted({*theirs, *firsts})
        pairs += [(name, theirs.get(name), firsts.get(name)) for name in names]
        for name, value, expected in pairs:
            if value != expected:
                raise UserError(
                    f"process {number} has {name} {value!r}, and process 0 has {expected!r}: start "
                    "all processes with the same settings"
                )

    def wait_for(self, name: str, what: str, numbers: Any = None) -> dict[int, Any]:
        """Wait until other processes have published something, and return it by their numbers.

        Args:
            name: as given to :meth:`publish`.
            what: what is waited for, for the log: "start".
            numbers: the processes; None for all others.

        Raises:
            LostProcess: another process has ended before.
            UserError: the processes did not publish it within half an hour.
        """
        wanted = [n for n in numbers or range(self.count) if n != self.number]
        found: dict[int, Any] = {}
        started, said = time.monotonic(), False
        while True:
            self._collect(name, wanted, found)
            missing = [number for number in wanted if number not in found]
            if not missing:
                return found
            try:
                self._raise_if_ended(missing)
            except LostProcess:
                # It may have published and ended since it was looked at.
                self._collect(name, missing, found)
                self._raise_if_ended([number for number in missing if number not in found])
                continue
            waited = time.monotonic() - started
            if waited > _MOST_SECONDS:
                raise UserError(
                    f"{_processes(missing)} of {self.count} did not {what} within "
                    f"{_MOST_SECONDS / 60:.0f} minutes in {self.folder}: start all of them"
                )
            if not said and waited > _SAY_SECONDS:
                said = True
                text = "waiting for %s of %d to %s, in %s"
                _LOG.info(text, _processes(missing), self.count, what, self.folder)
            time.sleep(_LOOK_SECONDS)

    def _collect(self, name: str, numbers: list[int], found: dict[int, Any]) -> None:
        """Add to `found` what processes have published that it does not hold yet."""
        for number in numbers:
            if number not in found:
                content = self._read(number, name)
                if content is not None:
                    found[number] = content

    def local_processes(self) -> int:
        """Return the number of processes on this machine and in its network, this one included."""
        abouts = [self._read(number, _ABOUT) or {} for number in range(self.count)]
        return sum(about.get("machine") == _machine() for about in abouts)

    def reason(self, symptom: str) -> LostProcess:
        """Return the error for a connection that broke: which process has ended, and why.

        Args:
            symptom: what is said if no process has ended, as far as is known.
        """
        end = time.monotonic() + _REASON_SECONDS
        others = [number for number in range(self.count) if number != self.number]
        while time.monotonic() < end:
            try:
                self._raise_if_ended(others)
            except LostProcess as error:
                return error
            time.sleep(_LOOK_SECONDS)
        return LostProcess(symptom)

    def _raise_if_ended(self, numbers: list[int]) -> None:
        """Raise LostProcess if one of the processes has ended; one that says why comes first."""
        # A process writes why it ends before it gives up its lock: look in the other order.
        gone = [n for n in numbers if self._read(n, _ABOUT) and is_locked(self._path(n)) is False]
        for number in numbers:
            failed = self._read(number, _FAILED)
            if failed:
                kind = LostByInterruption if failed["interrupted"] else LostProcess
                raise kind(f"{self._name(number)} has ended: {failed['message']}")
        for number in gone:
            if self._read(number, _DONE):
                raise LostProcess(
                    f"{self._name(number)} has ended: if it did so before this process started, "
                    "make a new empty rendezvous folder"
                )
            raise LostProcess(
                f"{self._name(number)} has ended without a message: was it killed, or its machine "
                "out of memory?"
            )

    def _name(self, number: int) -> str:
        about = self._read(number, _ABOUT) or {}
        place = f" ({about['process']} on {about['host']})" if about else ""
        return f"process {number} of {self.count}{place}"

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"process_{number}")

    def _read(self, number: int, name: str) -> Any:
        """Return what a process has published; None if it has not, or not completely."""
        try:
            with open_input(os.path.join(self._path(number), name + ".json"), MAX_JSON_BYTES) as f:
                return json.load(f)
        except (OSError, ValueError):
            return None


def _machine() -> str:
    """Return a text that differs between machines and between containers of one machine."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(read_text("/proc/sys/kernel/random/boot_id", 1000).strip())
        parts.append(os.readlink("/proc/self/ns/net"))  # whose network it has
    return " ".join(parts)


def _processes(numbers: list[int]) -> str:
    return f"{by_number(len(numbers), 'process', 'processes')} {', '.join(map(str, numbers))}"
