"""Running a sweep: each run is a process; finished runs are skipped, stopped ones resumed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import glob
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Iterator, NamedTuple, Sequence

from detectron_ext import config as configuration
from detectron_ext.config import Config
from detectron_ext.data.catalog import require_files, resolve
from detectron_ext.engine.startup import start_logging
from detectron_ext.environment import MKL_NUM_THREADS, OMP_NUM_THREADS
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.experiments.folds import Fold, write_split
from detectron_ext.experiments.record import (
    RECORD,
    STARTED,
    commit,
    read_record,
    settings,
    started_settings,
    write_record,
)
from detectron_ext.experiments.spec import REPOSITORY, Run
from detectron_ext.output_files import write_json
from detectron_ext.shipped_files import TOOLS

_LOG = logging.getLogger(__name__)
_TRAIN = TOOLS / "train_net.py"
_LOG_FILE = "log.txt"


class _Split(NamedTuple):
    """Data sets that are divided into folds.

    Attributes:
        results_dir: results folder of the sweep.
        variant: name of the first variant that needs the split, for messages.
        fold: any fold of it.
        names: catalog names of the data sets.
        config: a configuration that has the data sets.
    """

    results_dir: str
    variant: str
    fold: Fold
    names: tuple[str, ...]
    config: Config


class Sweep:
    """The runs of a sweep in a results folder.

    Args:
        runs: the runs, in the order in which they start.
        results_dir: folder of the runs. Each has a folder
            ``<group>/<data set>_<size>/<variant>/seed<k>/`` with the files of training and testing,
            ``log.txt`` and, after it has finished, ``record.json``.
        threads: CPU threads of each run; the last bits of a result depend on this number.

    Raises:
        UserError: the configuration of a run is wrong, or its folder has results of other settings.
    """

    def __init__(self, runs: Sequence[Run], results_dir: str, threads: int = 1):
        self._results_dir = results_dir
        self._threads = threads
        self._stopping = threading.Event()
        self._processes: set = set()
        # All configurations are checked before the first run starts.
        self._configs = {run.folder: self._load(run) for run in runs}
        self.runs = runs
        self._splits = self._plan_splits()
        for run in runs:
            self._check_settings(run)

    def folder(self, run: Run) -> str:
        """Return the folder of a run."""
        return os.path.join(self._results_dir, run.folder)

    def state(self, run: Run) -> str:
        """Return "done", "begun" (the run has a checkpoint) or "to do"."""
        if read_record(self.folder(run)):
            return "done"
        return "begun" if self._checkpoints(run) else "to do"

    def command(self, run: Run) -> list[str]:
        """Return the command line of a run, as a list."""
        pairs = self._overrides(run)
        return [sys.executable, str(_TRAIN), "--cfg", run.config_file, *map(str, pairs)]

    def run_all(self, jobs: int = 1) -> None:
        """Run the runs that have not finished, ``jobs`` at the same time.

        After Ctrl-C or SIGTERM the runs save a checkpoint before they end.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM.
            UserError: a data set is unknown or its files are missing, and no run was started; or
                runs failed, and all others have finished.
        """
        waiting = [run for run in self.runs if self.state(run) != "done"]
        _LOG.info("%d of %d runs are done", len(self.runs) - len(waiting), len(self.runs))
        self._prepare_datasets(waiting)
        with _signals_as_ctrl_c(), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self._run_one, run) for run in waiting]
            try:
                failures = [future.result() for future in futures]
            except BaseException:
                self._stop(futures)
                raise
        failures = [failure for failure in failures if failure]
        if failures:
            raise UserError(f"{len(failures)} of {len(waiting)} runs failed, first {failures[0]}")

    def _load(self, run: Run) -> Config:
        try:
            return configuration.load(run.config_file, self._overrides(run))
        except ConfigError as error:
            raise ConfigError(f"variant {run.variant}: {error}") from None

    def _overrides(self, run: Run) -> list:
        fold = run.fold.overrides(self._results_dir) if run.fold else []
        return [*run.overrides, *fold, "OUTPUT_DIR", self.folder(run)]

    def _plan_splits(self) -> dict[str, _Split]:
        """Return by its folder each split of data sets that the runs need.

        Raises:
            ConfigError: runs of one folder would split different data sets, or a run reads
                proposals from files, which belong to whole data sets.
        """
        splits: dict[str, _Split] = {}
        for run in self.runs:
            if run.fold is None:
                continue
            config = configuration.load(run.config_file, run.overrides)
            if config.TRAIN.PROPOSAL_FILES:
                raise ConfigError(
                    f"variant {run.variant}: folds cannot be used with TRAIN.PROPOSAL_FILES, whose "
                    "proposals are of whole data sets: use Faster R-CNN"
                )
            names = run.fold.source_datasets(config)
            split = _Split(self._results_dir, run.variant, run.fold, names, config)
            first = splits.setdefault(run.fold.folder, split)
            if names != first.names:
                raise ConfigError(
                    f"variant {first.variant} would split {', '.join(first.names)} into folds, and "
                    f"variant {run.variant} {', '.join(names)}: give all variants the same data "
                    "sets, or name them as folds.datasets in the sweep's file"
                )
        return splits

    def _check_settings(self, run: Run) -> None:
        """Refuse a folder with a record or a checkpoint of other settings."""
        folder, record = self.folder(run), read_record(self.folder(run))
        if record is None and not self._checkpoints(run):
            return
        found = record["settings"] if record else started_settings(folder)
        wanted = settings(self._configs[run.folder], run.fold)
        differing = [
            k for k in {**wanted, **(found or {})} if wanted.get(k) != (found or {}).get(k)
        ]
        if differing:
            raise UserError(
                f"{folder} was run with another {differing[0]}: choose another results folder, or "
                "remove this one"
            )

    def _prepare_datasets(self, waiting: list) -> None:
        """Split data sets into folds, check that all are there, and draw missing built-in ones.

        They are drawn now, so that the time of no run includes the drawing. Another process does
        it, to keep this one small: the peak memory that a run reports is at least the memory that
        this process had when it started the run.

        Raises:
            UserError: a data set is unknown, its files are missing, or it cannot be split.
        """
        configs = [(run.variant, self._configs[run.folder]) for run in waiting]
        needed = {run.fold.folder for run in waiting if run.fold}
        splits = [self._splits[folder] for folder in sorted(needed)]
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_prepare, args=(splits, configs, sender))
        process.start()
        sender.close()  # the other process has its own; without this, recv would wait for ever
        with contextlib.suppress(EOFError):  # the process was stopped, or it raised an error
            fault = receiver.recv()
            if fault:
                process.join()
                raise UserError(fault)
        process.join()

    def _run_one(self, run: Run) -> str | None:
        """Do :meth:`_train_and_record`, log its error and return it as one line, or None."""
        if self._stopping.is_set():
            return None
        try:
            failure = self._train_and_record(run)
        except UserError as error:
            failure = f"{run.folder}: {error}"
        except OSError as error:
            failure = f"{run.folder}: {error.filename or 'system'}: {error.strerror}"
        if failure:
            _LOG.warning("failed: %s", failure)
        return failure

    def _train_and_record(self, run: Run) -> str | None:
        """Train and test in a process and write the record; return an error as one line, or None.

        Raises:
            UserError: the process ended without error, but left no log or no results.
            OSError: a file cannot be written, or the process cannot be started.
        """
        folder = self.folder(run)
        os.makedirs(folder, exist_ok=True)
        with _lock(folder) as lock:
            if lock is None:
                _LOG.info("%s: another sweep is running it", run.folder)
                return None
            if os.path.exists(os.path.join(folder, RECORD)):
                return None
            resumed = bool(self._checkpoints(run))
            started = settings(self._configs[run.folder], run.fold)
            write_json(os.path.join(folder, STARTED), started)
            _LOG.info("%s: %s", run.folder, "resumed" if resumed else "started")
            code = commit()  # at the start: the checkout may change before the end
            status, measured = self._execute(run, lock)
            if status:
                return f"{run.folder}: {_last_error(folder)} (see {folder}/{_LOG_FILE})"
            measured.update(threads=self._threads, resumed=resumed, **code)
            record = write_record(folder, run, self._configs[run.folder], measured)
            for path in self._checkpoints(run):
                os.unlink(path)
            _LOG.info("%s: done in %.0f s", run.folder, record["seconds_of_last_process"])
            return None

    def _execute(self, run: Run, lock: int) -> tuple[int, dict]:
        """Run the process of a run; return its exit status and its time and memory."""
        environment = {**os.environ}
        for variable in (OMP_NUM_THREADS, MKL_NUM_THREADS):
            environment[variable.name] = str(self._threads)
        packages = [str(REPOSITORY), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, packages))
        started = time.perf_counter()
        with open(os.path.join(self.folder(run), _LOG_FILE), "ab") as log:
            # The process has its own session, so that only _stop passes Ctrl-C on to it. It also
            # holds the lock: if this sweep is killed, no other sweep starts the run until the
            # process has ended.
            process = subprocess.Popen(
                self.command(run), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True, pass_fds=[lock],
            )  # fmt: skip
            self._processes.add(process.pid)
            try:
                _, wait_status, usage = os.wait4(process.pid, 0)
            finally:
                self._processes.discard(process.pid)
            process.returncode = _exit_status(wait_status)
        return process.returncode, {
            "seconds_of_last_process": round(time.perf_counter() - started, 1),
            "cpu_seconds_of_last_process": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_memory_mb": usage.ru_maxrss // 1024,
        }

    def _checkpoints(self, run: Run) -> list:
        return glob.glob(os.path.join(glob.escape(self.folder(run)), "train/*/*/model_iter*.pkl"))

    def _stop(self, futures: list) -> None:
        """Start no more processes, and make the running ones save a checkpoint and end."""
        self._stopping.set()
        for future in futures:
            future.cancel()
        for pid in list(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)


@contextlib.contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP as Ctrl-C.

    Otherwise the runs, which have their own sessions, would go on. SIGHUP that is ignored, as with
    ``nohup``, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals only in the main thread
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = [(number, signal.signal(number, signal.default_int_handler)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _prepare(splits: list[_Split], configs: list[tuple[str, Config]], sender: Connection) -> None:
    """Make the folds, look up every data set of (variant, configuration) pairs, and draw.

    The first error is sent as one line, else "".
    """
    start_logging()  # it tells how the images were split
    faults = itertools.chain(map(_failed_split, splits), itertools.starmap(_missing_data, configs))
    with contextlib.suppress(KeyboardInterrupt):
        sender.send(next(filter(None, faults), ""))


def _failed_split(split: _Split) -> str:
    """Write the files of a split; return as one line why that is not possible, or ""."""
    try:
        write_split(split.results_dir, split.fold, split.names, split.config)
    except UserError as error:
        return f"variant {split.variant}: {error}"
    return ""


def _missing_data(variant: str, config: Config) -> str:
    """Return as one line which data set of a run is unknown or not there; "" if all are there."""
    for name in (*config.TRAIN.DATASETS, *config.TEST.DATASETS):
        try:
            require_files(resolve(name, config))
        except UserError as error:
            return f"variant {variant}: {error}"
    return ""


@contextlib.contextmanager
def _lock(folder: str) -> Iterator[int | None]:
    """Lock a folder for this process and its child.

    The value of the ``with`` statement is the lock's file descriptor. It is None if another process
    has the lock.
    """
    with open(os.path.join(folder, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()


def _exit_status(wait_status: int) -> int:
    """Return the exit status, -N after signal N; os.waitstatus_to_exitcode needs Python 3.9."""
    if os.WIFSIGNALED(wait_status):
        return -os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)


def _last_error(folder: str) -> str:
    with open(os.path.join(folder, _LOG_FILE), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines[-30:] if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1][:300]
