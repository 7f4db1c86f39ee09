"""Runs the tools as their users do, in this process so that Caffe2 is imported once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

from squares import REPOSITORY


class Outcome(NamedTuple):
    """What a tool left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def _restored_process():
    """Tools take over the package's logger and set the threads of a process of their own."""
    logger = logging.getLogger("detectron_ext")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    environment = dict(os.environ)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


def run_tool(name: str, *arguments) -> Outcome:
    """Run tools/<name>.py; what it raises beyond SystemExit is raised here too."""
    path = str(REPOSITORY / "tools" / f"{name}.py")
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv, sys.argv = sys.argv, [path, *map(str, arguments)]
    try:
        with _restored_process(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as stopped:
        status = stopped.code or 0
    finally:
        sys.argv = argv
    return Outcome(status, out.getvalue(), err.getvalue())


class Workplace(NamedTuple):
    """A trained tiny model.

    Attributes:
        folder: holds everything.
        cfg: configuration file; its OUTPUT_DIR has a checkpoint and a test's results.
        weights: the model.
    """

    folder: Path
    cfg: Path
    weights: Path

    @property
    def images(self) -> Path:
        return self.folder / "squares" / "images"

    @property
    def training(self) -> Path:
        return self.folder / "output" / "train" / "squares" / "retinanet"

    @property
    def testing(self) -> Path:
        return self.folder / "output" / "test" / "squares" / "retinanet"

    def results(self) -> dict:
        """File to digest, of all that a run would be sorry to lose."""
        files = [p for p in (self.folder / "output").rglob("*") if p.suffix in (".pkl", ".json")]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def failure(outcome: Outcome) -> str:
    """The message of a tool that ended with a person's mistake: status 2, one last line."""
    assert outcome.status == 2, outcome
    errors = [line for line in outcome.err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert outcome.err.splitlines()[-1] == errors[0]
    assert errors[0].startswith("error: ")
    assert "Traceback" not in outcome.err
    return errors[0][len("error: ") :]
