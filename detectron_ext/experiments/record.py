"""The record of a finished run: its settings, versions, machine, time, memory and results."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from typing import Any

from detectron_ext import __version__
from detectron_ext import config as configuration
from detectron_ext.config import Config
from detectron_ext.errors import UserError
from detectron_ext.evaluation.training_log import read_training_log, training_costs
from detectron_ext.experiments.folds import Fold
from detectron_ext.experiments.spec import REPOSITORY, Run
from detectron_ext.input_files import read_text
from detectron_ext.limits import MAX_JSON_BYTES
from detectron_ext.output_files import write_json

RECORD = "record.json"
STARTED = "settings.json"
_MEASURED_BY = ("torch", "numpy", "pycocotools", "opencv-python-headless")


def read_record(folder: str) -> dict | None:
    """Return the record in a run's folder; None if the run has not finished.

    Raises:
        UserError: the file is not a record.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.exists(path):
        return None
    try:
        record = json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a record ({error}): remove it to repeat the run") from None
    parts = [record.get(key) for key in ("settings", "metrics")] if isinstance(record, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} is not a record: remove it to repeat the run")
    return record


def started_settings(folder: str) -> dict | None:
    """Return the settings that a run was started with; None if the file is missing or damaged."""
    try:
        started = json.loads(read_text(os.path.join(folder, STARTED), MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return started if isinstance(started, dict) else None


def write_record(folder: str, run: Run, config: Config, measured: dict) -> dict:
    """Write the record of a finished run and return it.

    Args:
        folder: folder of the run.
        run: the run.
        config: its merged configuration; its log and results are in its OUTPUT_DIR.
        measured: values that the sweep measured: seconds, memory, threads and commit.

    Raises:
        UserError: the run left no log or no results, or the record cannot be written.
    """
    record = {
        "variant": run.variant,
        "dataset": run.dataset or None,
        "size": run.size,
        "seed": run.seed,
        "fold": run.fold.number if run.fold else None,
        "config": _shown_path(run.config_file),
        "overrides": dict(zip(run.overrides[0::2], run.overrides[1::2])),
        "settings": settings(config, run.fold),
        "versions": versions(),
        "machine": {"processor": _processor(), "system": platform.system()},
        "finished": datetime.datetime.utcnow().replace(microsecond=0).isoformat() + "Z",
        **measured,
        **_training_seconds(config),
        "metrics": {name: _results(config, name) for name in config.TEST.DATASETS},
    }
    write_json(os.path.join(folder, RECORD), record)
    return record


def settings(config: Config, fold: Fold | None = None) -> dict:
    """Return {KEY: value} of all settings that differ from the defaults.

    Settings that depend on the results folder are left out: OUTPUT_DIR, and the paths of a fold.
    """
    defaults, given = map(configuration.flat_settings, (configuration.load(), config))
    differing = {key: value for key, value in given.items() if defaults.get(key) != value}
    differing.pop("OUTPUT_DIR", None)
    if fold is None:
        return differing
    return {key: value for key, value in differing.items() if not fold.is_place_setting(key)}


def versions() -> dict:
    """Return the versions of Python, of this package and of the packages that compute results."""
    found = {name: _version(name) for name in _MEASURED_BY}
    return {"python": platform.python_version(), "detectron_ext": __version__, **found}


def _version(name: str) -> str | None:
    import pkg_resources  # importlib.metadata needs Python 3.8

    try:
        return pkg_resources.get_distribution(name).version
    except pkg_resources.DistributionNotFound:
        return None


def commit() -> dict:
    """Return {commit, modified} of the checkout that the code is in; None outside of a checkout."""
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
    """Return a path, relative to the repository if the file is in it."""
    shown = os.path.relpath(os.path.abspath(path), str(REPOSITORY))
    return path if shown.startswith("..") else shown


def _training_seconds(config: Config) -> dict:
    """Return wall and CPU seconds of training, summed over all processes of a resumed run.

    They are None if one of the processes ran with a version that did not log them.
    """
    folder = configuration.run_folder(config, config.TRAIN.DATASETS, training=True)
    costs = training_costs(read_training_log(os.path.join(folder, "stats.jsonl")))
    told = {
        "seconds_training": costs["training_seconds"],
        "cpu_seconds_training": costs["training_cpu_seconds"],
    }
    return {name: None if value is None else round(value, 1) for name, value in told.items()}


def _results(config: Config, dataset: str) -> Any:
    """Return the scores on a data set; None if it has no annotations."""
    folder = configuration.run_folder(config, (dataset,), training=False)
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path) and os.path.exists(os.path.join(folder, "detections.json")):
        return None
    try:
        return json.loads(read_text(path, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the run left no results in {path}: {error}") from None
