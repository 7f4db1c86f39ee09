"""Starting the processes of a training on one machine."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any, Iterator, Sequence

from detectron_ext.counted import counted
from detectron_ext.environment import OMP_NUM_THREADS
from detectron_ext.errors import UserError
from detectron_ext.shipped_files import tool_paths

_LOG = logging.getLogger(__name__)
_TOOLS = ("train_net",)
_MOST_PROCESSES = 1024
_LOOK_SECONDS = 0.1
# How long the others have to say why they end, and then to end by SIGTERM; seconds.
_END_SECONDS, _KILL_SECONDS = 60.0, 5.0
_WARNING = re.compile(r"\d\d:\d\d:\d\d process \d+: warning: ")
_LAST_LINES = 30


def launch(count: int, command: Sequence[str]) -> int:
    """Start processes that train together, and wait for them.

    The output of process 0 is shown, and the warnings of the others. Ctrl-C, SIGTERM and SIGHUP are
    passed on to all of them, once each. If a process ends with an error, the others end within a
    minute.

    Args:
        count: number of processes.
        command: the program of a tool, or its name, and its arguments.

    Returns:
        The exit status of process 0, or that of the process that failed.

    Raises:
        UserError: the command is not one that several processes run, or a process was killed.
    """
    if not 1 <= count <= _MOST_PROCESSES:
        raise UserError(f"-n must be from 1 to {_MOST_PROCESSES}, given {count}")
    program = [sys.executable, _tool(command[0]), *command[1:]]
    environment = dict(os.environ)
    processors = len(os.sched_getaffinity(0))
    if not OMP_NUM_THREADS.value:
        environment[OMP_NUM_THREADS.name] = str(max(1, processors // count))
    _LOG.info(
        "%s with %s each, on %s",
        counted(count, "process", "processes"),
        counted(int(environment[OMP_NUM_THREADS.name].split(",")[0] or 1), "thread"),
        counted(processors, "processor"),
    )
    folder = tempfile.mkdtemp(prefix="detectron_ext_processes_")
    try:
        return _Processes(program, count, folder, environment).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tool(name: str) -> str:
    """Return the path of the tool that a command begins with."""
    tool = os.path.basename(name)
    tool = tool[: -len(".py")] if tool.endswith(".py") else tool
    if tool not in _TOOLS:
        raise UserError(f"{name} does not run in several processes: give {', '.join(_TOOLS)}")
    return str(tool_paths()[tool])


class _Processes:
    """The processes, from their start to their end.

    Args:
        program: interpreter, program and arguments.
        count: number of processes.
        folder: an empty folder for the rendezvous and for logs.
        environment: variables of the processes.
    """

    def __init__(self, program: list[str], count: int, folder: str, environment: dict[str, str]):
        self._program, self._count, self._folder = program, count, folder
        self._environment = environment
        self._processes: list[subprocess.Popen] = []
        self._last_lines: list[list[str]] = [[] for _ in range(count)]
        self._readers: list[threading.Thread] = []

    def run(self) -> int:
        """Start them and wait until all have ended; return the exit status."""
        with self._passing_signals():
            try:
                for number in range(self._count):
                    self._start(number)
                self._wait()
            finally:
                self._kill()
        for reader in self._readers:
            reader.join(_KILL_SECONDS)
        return self._status()

    def _start(self, number: int) -> None:
        rendezvous = ["--rendezvous", self._folder] if self._count > 1 else []
        which = ["--num-shards", str(self._count), "--shard-id", str(number), *rendezvous]
        output = subprocess.PIPE if number else None
        # Their own session: only this process passes Ctrl-C on to them.
        process = subprocess.Popen(
            [*self._program, *(which if self._count > 1 else [])],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if number else None,
            env=self._environment, start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        self._processes.append(process)
        if process.stdout:
            reader = threading.Thread(target=self._read, args=(number, process.stdout), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, number: int, output: IO[str]) -> None:
        """Show the warnings of a process, and keep its last lines."""
        for line in output:
            if _WARNING.match(line):
                print(line, end="", file=sys.stderr, flush=True)
            lines = self._last_lines[number]
            lines.append(line.rstrip("\n"))
            del lines[:-_LAST_LINES]

    @contextlib.contextmanager
    def _passing_signals(self) -> Iterator[None]:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as with nohup
            numbers.append(signal.SIGHUP)
        before = [(number, signal.signal(number, self._pass_on)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: Any) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def _wait(self) -> None:
        """Wait until all have ended, or long enough after one has failed or process 0 has ended."""
        limit: float | None = None
        while any(process.poll() is None for process in self._processes):
            ended = [process.returncode for process in self._processes]
            if limit is None and (ended[0] is not None or any(ended)):
                limit = time.monotonic() + _END_SECONDS
            if limit is not None and time.monotonic() > limit:
                return
            time.sleep(_LOOK_SECONDS)

    def _kill(self) -> None:
        """End what still runs."""
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _KILL_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _status(self) -> int:
        """Return the exit status of all; raise the error that process 0 could not print."""
        first = self._processes[0].returncode
        for number, process in enumerate(self._processes):
            if number and process.returncode == 1:  # a fault of the program: its traceback
                print("\n".join(self._last_lines[number]), file=sys.stderr)
        if first > 0:
            return first  # its message names the process that failed
        for number, process in enumerate(self._processes):
            if process.returncode:
                raise UserError(f"process {number} of {self._count} {self._end(number)}")
        return 0

    def _end(self, number: int) -> str:
        status = self._processes[number].returncode
        if status < 0:
            name = signal.Signals(-status).name
            return f"was killed by {name}; the same command resumes from the newest checkpoint"
        errors = [line for line in self._last_lines[number] if line.startswith("error: ")]
        reason = f": {errors[-1][len('error: ') :]}" if errors else ""
        return f"ended with status {status}{reason}"
