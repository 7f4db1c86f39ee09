"""The processes that train one model together, connected by Caffe2's Gloo operators.

Process I of N trains minibatch number t * N + I in iteration t. Process 0 alone reads checkpoints
and writes files. What it decides reaches the others through the rendezvous folder before the
processes are connected, and by Gloo afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Iterator, Sequence, TypeVar

import numpy as np
from caffe2.python import core, workspace

from detectron_ext import __version__
from detectron_ext import config as configuration
from detectron_ext.config.keys import KEYS
from detectron_ext.engine.parameters import feed, trained_state
from detectron_ext.engine.rendezvous import Rendezvous
from detectron_ext.errors import UserError
from detectron_ext.modeling.process_sums import ENGINE, STOP

if TYPE_CHECKING:
    from detectron_ext.config import Config
    from detectron_ext.data.data_record import DataRecord
    from detectron_ext.modeling.model import DetectionModel

T = TypeVar("T")

# How long a process waits for the others in a sum. A process that is killed is noticed at once: the
# system closes its connections. This is for machines and networks that are lost.
TIMEOUT_SECONDS = 45
_STORE, _START, _START_WORLD = "process_store", "process_start", "process_start_world"
# Keys that all processes must agree on although they do not change the weights by themselves.
_ALSO_EQUAL = ("LIBRA.TRAIN.SKIP_NONFINITE", "SOLVER.MAX_ITER")
# Machines may have different numbers of GPUs, and files at different places.
_MAY_DIFFER = ("NUM_GPUS", "TRAIN.WEIGHTS", "TRAIN.PROPOSAL_FILES")


class ProcessGroup:
    """The processes of a training; without a rendezvous it is this process alone.

    Args:
        rendezvous: the shared folder, entered; None for one process.
        interface: network interface that Gloo uses, such as "eth0"; "" chooses the loopback if all
            processes are on one machine, otherwise that of the machine's name.

    Attributes:
        count: number of processes.
        number: number of this process, from 0.
        is_first: whether this is process 0, which reads checkpoints and writes files.
    """

    def __init__(self, rendezvous: Rendezvous | None = None, interface: str = ""):
        self._rendezvous, self._interface = rendezvous, interface
        self.count = rendezvous.count if rendezvous else 1
        self.number = rendezvous.number if rendezvous else 0
        self.is_first = self.number == 0

    def join(self, config: Config) -> None:
        """Wait for the other processes and check that their settings are the same.

        Raises:
            UserError: a setting differs; the message names it.
            LostProcess: another process has ended.
        """
        if self._rendezvous:
            self._rendezvous.join(_common_settings(config))

    def of_first(self, name: str, value: T) -> T:
        """Return process 0's value of something that JSON has; ``value`` is ignored in the others.

        Raises:
            LostProcess: another process has ended.
        """
        if self._rendezvous is None:
            return value
        if self.is_first:
            self._rendezvous.publish(name, {"value": value})
            return value
        return self._rendezvous.wait_for(name, "read its files", [0])[0]["value"]

    def check_data(self, data: DataRecord | None) -> None:
        """Wait until all processes have read their data, and check that they read the same.

        Raises:
            UserError: the data differ.
            LostProcess: another process has ended.
        """
        if self._rendezvous is None:
            return
        self._rendezvous.publish("data", {"record": data})
        found = self._rendezvous.wait_for("data", "read the training data")
        for number, other in found.items():
            if other["record"] != data:
                raise UserError(
                    f"process {number} reads other training data than process {self.number}: their "
                    "annotation files must be the same"
                )

    def local_processes(self) -> int:
        """Return the number of the processes on this machine, this one included."""
        return self._rendezvous.local_processes() if self._rendezvous else 1

    def connect(self, model: DetectionModel) -> None:
        """Connect the processes for the sums of a model; blobs in the workspace keep the sockets.

        Raises:
            UserError: they cannot be connected.
            LostProcess: another process has ended.
        """
        if self._rendezvous is None:
            return
        _silence_tracebacks()
        interface = self._interface or self._default_interface()
        store = {"path": self._rendezvous.folder, "prefix": "gloo"}
        with self._watched():
            _run("FileStoreHandlerCreate", [], [_STORE], **store)
            for name in (_START_WORLD, *model.common_worlds):
                _run(
                    "CreateCommonWorld", [_STORE], [name],
                    engine=ENGINE, name=name, size=self.count, rank=self.number,
                    interface=interface, timeout_ms=TIMEOUT_SECONDS * 1000,
                )  # fmt: skip

    def _default_interface(self) -> str:
        """Return the loopback for one machine; otherwise "", the address of the machine's name."""
        if self.local_processes() == self.count:
            return "lo"
        try:
            address = socket.gethostbyname(socket.gethostname())
        except OSError:
            address = "no address"
        if address.startswith("127.") or address == "no address":
            raise UserError(
                f"the name of this machine, {socket.gethostname()}, has {address}, which other "
                "machines cannot reach: name the network interface with --interface, such as eth0"
            )
        return ""

    def share_state(self, model: DetectionModel) -> None:
        """Set parameters, momenta, states and learning rate of all processes to process 0's."""
        if self._rendezvous is None:
            return
        names = [*trained_state(model), *model.states, "lr"]
        arrays = [workspace.FetchBlob(name) for name in names]
        joined = self.broadcast(np.concatenate([np.ravel(array) for array in arrays]))
        ends = np.cumsum([array.size for array in arrays])[:-1]
        for name, array, values in zip(names, arrays, np.split(joined, ends)):
            feed(model, 0, name, values.reshape(array.shape))

    def broadcast(self, numbers: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return process 0's numbers, float32; all processes must give as many.

        Raises:
            LostProcess: another process has ended.
        """
        values = np.asarray(numbers, dtype=np.float32)
        if self._rendezvous is None:
            return values
        workspace.FeedBlob(_START, values)
        with self._watched():
            _run("Broadcast", [_START_WORLD, _START], [_START], engine=ENGINE)
        return workspace.FetchBlob(_START)

    @contextlib.contextmanager
    def stepping(self, stop: bool) -> Iterator[None]:
        """A context for a net with sums over the processes.

        Args:
            stop: whether this process was asked to stop.

        Raises:
            LostProcess: another process has ended. What the net sums is undefined then.
        """
        if self._rendezvous is None:
            yield
            return
        workspace.FeedBlob(STOP, np.array([stop], dtype=np.float32))
        with self._watched():
            yield

    def stops(self, stop: bool) -> bool:
        """Return whether a process was asked to stop before the last step.

        Args:
            stop: whether this process was asked to stop by now, which decides if it is alone.
        """
        return bool(workspace.FetchBlob(STOP)[0]) if self._rendezvous else stop

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn an error of Gloo into the error that names the process at fault."""
        try:
            yield
        except RuntimeError as error:
            text = " ".join(str(error).split())
            if self._rendezvous is None or not _is_of_connection(text):
                raise
            raise self._rendezvous.reason(_symptom(text)) from error


@contextlib.contextmanager
def process_group(count: int, number: int, folder: str, interface: str) -> Iterator[ProcessGroup]:
    """A context with the processes of a run; a count of 1 is this process alone.

    Args:
        count: number of processes.
        number: number of this process, from 0.
        folder: the rendezvous folder.
        interface: as of `ProcessGroup`.

    Raises:
        UserError: the folder cannot be used, or was used before.
    """
    if count == 1:
        yield ProcessGroup()
        return
    with Rendezvous(folder, count, number) as rendezvous:
        yield ProcessGroup(rendezvous, interface)


def _common_settings(config: Config) -> dict[str, Any]:
    """Return what all processes must agree on, as plain values."""
    settings = {
        name: value
        for name, value in configuration.flat_settings(config).items()
        if name in KEYS and (KEYS[name].affects_weights or name in _ALSO_EQUAL)
        if name not in _MAY_DIFFER
    }
    settings["version of detectron_ext"] = __version__
    return {name: str(value) for name, value in settings.items()}


def _symptom(text: str) -> str:
    if "timeout" in text.lower():
        return f"another process did not answer for {TIMEOUT_SECONDS} s: {text[:200]}"
    return f"the connection to another process is lost: {text[:200]}"


def _is_of_connection(text: str) -> bool:
    return "third_party/gloo/" in text or "file_store_handler" in text


def _run(operator: str, inputs: list[str], outputs: list[str], **arguments: Any) -> None:
    workspace.RunOperatorOnce(core.CreateOperator(operator, inputs, outputs, **arguments))


def _silence_tracebacks() -> None:
    """Keep Caffe2 from logging where an operator that failed was made: the error says it all."""
    logger = logging.getLogger("caffe2.python.workspace")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
