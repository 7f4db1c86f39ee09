"""Running a sweep, or saying what it would run."""

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
    """Run what a spec asks for and is not done.

    Args:
        spec_path: YAML file, see :func:`detectron_ext.experiments.spec.read_spec`.
        results_dir: gets a folder for each run.
        jobs: runs at a time.
        threads: CPU threads of each.
        only: take only the runs whose folder holds this text.
        dry_run: print every run's state and command instead.

    Raises:
        UserError: a bad spec or configuration, or runs that failed.
    """
    runs = [run for run in read_spec(spec_path).runs if only in run.folder]
    if not runs:
        raise UserError(f"{spec_path} has no run whose folder holds {only}: see --dry-run")
    plan = Sweep(runs, results_dir, threads)
    if not dry_run:
        plan.run_all(jobs)
        return
    for run in plan.runs:
        command = " ".join(map(shlex.quote, plan.command(run)[1:]))
        print(f"{plan.state(run):5}  {run.folder}  {command}")


def report(spec_path: str, results_dir: str, page: str) -> None:
    """Write what a sweep has found so far; see :mod:`detectron_ext.experiments.results`.

    Args:
        spec_path: YAML file.
        results_dir: where it ran.
        page: Markdown file whose part on this sweep is written anew.

    Raises:
        UserError: nothing is done yet, a damaged run, or a file that cannot be written.
    """
    spec = read_spec(spec_path)
    split_page(page, spec.name)  # refuses a page now, not after minutes of scoring
    Sweep(spec.runs, results_dir)  # refuses results of other settings
    results = collect_results(spec, results_dir)
    for line in all_warnings(results):
        _LOG.warning("%s", line)
    _LOG.info("written: %s and %s", page, write_report(results, page))
