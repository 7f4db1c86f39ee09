"""Running a sweep, and reporting its results."""

from __future__ import annotations

import logging
import shlex

from detectron_ext.errors import UserError
from detectron_ext.experiments.results import (
    all_warnings,
    collect_results,
    split_page,
    write_report,
)
from detectron_ext.experiments.spec import read_spec
from detectron_ext.experiments.sweep import Sweep

_LOG = logging.getLogger(__name__)


def sweep(
    spec_path: str,
    results_dir: str,
    jobs: int = 1,
    threads: int = 1,
    only: str = "",
    dry_run: bool = False,
) -> None:
    """Run the runs of a sweep that have not finished.

    Args:
        spec_path: YAML file; see :func:`detectron_ext.experiments.spec.read_spec`.
        results_dir: folder for the runs.
        jobs: number of runs at the same time.
        threads: CPU threads of each run.
        only: only take runs whose folder name contains this text.
        dry_run: print the state and the command of each run instead of running it.

    Raises:
        UserError: the sweep's file or a configuration is wrong, or runs failed.
    """
    runs = [run for run in read_spec(spec_path).runs if only in run.folder]
    if not runs:
        raise UserError(
            f"{spec_path} has no run whose folder name contains {only}: --dry-run lists the folders"
        )
    plan = Sweep(runs, results_dir, threads)
    if not dry_run:
        plan.run_all(jobs)
        return
    for run in plan.runs:
        command = " ".join(map(shlex.quote, plan.command(run)[1:]))
        print(f"{plan.state(run):5}  {run.folder}  {command}")


def report(spec_path: str, results_dir: str, page: str) -> None:
    """Write the results of a sweep's finished runs to a Markdown page and a JSON file.

    See :func:`detectron_ext.experiments.results.write_report`.

    Args:
        spec_path: YAML file of the sweep.
        results_dir: folder of the runs.
        page: Markdown file; its part about this sweep is replaced.

    Raises:
        UserError: no run is done yet, a run is damaged, or a file cannot be written.
    """
    spec = read_spec(spec_path)
    split_page(page, spec.name)  # raises the errors of the page before the runs are scored
    Sweep(spec.runs, results_dir)  # raises an error for results of other settings
    results = collect_results(spec, results_dir)
    for line in all_warnings(results):
        _LOG.warning("%s", line)
    _LOG.info("written: %s and %s", page, write_report(results, page))
