"""The record of one finished run: what ran, on what, for how long, and what came out."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from typing import Any

from detectron_ext import __version__
from detectron_ext import config as configuration
from detectron_ext.errors import UserError
from detectron_ext.evaluation.training_log import read_training_log, training_costs
from detectron_ext.experiments.spec import REPOSITORY, Run
from detectron_ext.output_files import write_json

RECORD = "record.json"
STARTED = "settings.json"
_MEASURED_BY = ("torch", "numpy", "pycocotools", "opencv-python-headless")


def read_record(folder: str) -> dict | None:
    """The record a run left in its folder; None where it has not finished.

    Raises:
        UserError: the file is there and is no record.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no record of a run ({error}): remove it to run again") from None
    parts = [record.get(key) for key in ("settings", "metrics")] if isinstance(record, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} is no record of a run: remove it to run again")
    return record


def started_settings(folder: str) -> dict | None:
    """The settings that a run was started with; None where it was not, or they cannot be read."""
    try:
        with open(os.path.join(folder, STARTED), encoding="utf-8") as file:
            started = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return started if isinstance(started, dict) else None


def write_record(folder: str, run: Run, config, measured: dict) -> dict:
    """Write the record of a run that has finished; returns it.

    Args:
        folder: the run's.
        run: what ran.
        config: its configuration, whose test results are read.
        measured: what the sweep knows: seconds, memory, threads, commit.

    Raises:
        UserError: the run left no log or no results.
    """
    record = {
        "variant": run.variant,
        "dataset": run.dataset or None,
        "size": run.size,
        "seed": run.seed,
        "config": _shown_path(run.config_file),
        "overrides": dict(zip(run.overrides[0::2], run.overrides[1::2])),
        "settings": settings(config),
        "versions": versions(),
        "machine": {"processor": _processor(), "system": platform.system()},
        "finished": datetime.datetime.utcnow().replace(microsecond=0).isoformat() + "Z",
        **measured,
        **_training_seconds(config),
        "metrics": {name: _results(config, name) for name in config.TEST.DATASETS},
    }
    write_json(os.path.join(folder, RECORD), record)
    return record


def settings(config) -> dict:
    """{KEY: value} of all in which a configuration differs from the defaults, but OUTPUT_DIR."""
    defaults, given = map(configuration.flat_settings, (configuration.load(), config))
    differing = {key: value for key, value in given.items() if defaults.get(key) != value}
    differing.pop("OUTPUT_DIR", None)
    return differing


def versions() -> dict:
    """Versions of Python, of this package and of what computes the figures (torch has Caffe2)."""
    found = {name: _version(name) for name in _MEASURED_BY}
    return {"python": platform.python_version(), "detectron_ext": __version__, **found}


def _version(name: str) -> str | None:
    import pkg_resources  # importlib.metadata is newer than Python 3.7

    try:
        return pkg_resources.get_distribution(name).version
    except pkg_resources.DistributionNotFound:
        return None


def commit() -> dict:
    """{commit, modified}: of the checkout the code runs from; None where it is none."""
    hash_ = _git("rev-parse", "HEAD")
    if hash_ is None:
        return {"commit": None, "modified": None}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": hash_, "modified": bool(changes)}


def _git(*arguments: str) -> str | None:
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _shown_path(path: str) -> str:
    """Relative to the repository where the file is in it."""
    shown = os.path.relpath(os.path.abspath(path), str(REPOSITORY))
    return path if shown.startswith("..") else shown


def _training_seconds(config) -> dict:
    """Wall and CPU seconds of training, over all the processes that took part in it.

    None where a process, of a version that did not log them, took part.
    """
    folder = configuration.output_dir(config, config.TRAIN.DATASETS, training=True)
    costs = training_costs(read_training_log(os.path.join(folder, "stats.jsonl")))
    told = {
        "seconds_training": costs["training_seconds"],
        "cpu_seconds_training": costs["training_cpu_seconds"],
    }
    return {name: None if value is None else round(value, 1) for name, value in told.items()}


def _results(config, dataset: str) -> Any:
    """Scores on a data set; None where it has no annotations to score with."""
    folder = configuration.output_dir(config, (dataset,), training=False)
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path) and os.path.exists(os.path.join(folder, "detections.json")):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"the run left no results in {path}: {error}") from None
