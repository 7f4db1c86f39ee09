"""Comparing the tests of trained models."""

from __future__ import annotations

import logging
import os
from typing import Sequence

from detectron_ext.config.settings import Settings
from detectron_ext.data.catalog import DatasetEntry, resolve
from detectron_ext.data.coco_dataset import read_ground_truth
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.evaluation.comparable import check_names, common_dataset, common_images
from detectron_ext.evaluation.comparison import image_resamples, measure
from detectron_ext.evaluation.comparison_report import Side, as_markdown, write_comparison
from detectron_ext.evaluation.operating_points import THRESHOLD
from detectron_ext.evaluation.run_folder import TestRun, open_run
from detectron_ext.evaluation.training_differences import PRIMARY, Design, check_primary
from detectron_ext.output_files import check_writable_folder

_LOG = logging.getLogger(__name__)


def compare_runs(
    config: Settings,
    baseline: Sequence[str],
    candidates: Sequence[Sequence[str]],
    output_dir: str,
    names: Sequence[str] = (),
    dataset: str = "",
    annotations: str = "",
    threshold: float = THRESHOLD,
    num_resamples: int = 1000,
    primary: str = "",
    is_paired: bool = False,
) -> str:
    """Compare candidates with a baseline and return the tables as Markdown.

    Args:
        config: a merged configuration. Its DATASETS_EXTRA may have the data set, and its
            LIBRA.EVALUATION.AP_DETECTIONS may add an AP.
        baseline: output folders of the baseline's runs, which differ only in their seeds.
        candidates: for each candidate the output folders of its runs.
        output_dir: folder for comparison.json, .csv, .md and .html.
        names: names of the baseline and of each candidate. The default is the name of the first
            folder, or its path if two folders have the same name.
        dataset: catalog name of the data set; needed if a run was tested on several and its folder
            is not that of one test.
        annotations: COCO annotation file of the data set; by default that of the catalog.
        threshold: detections with this score or more count for precision and recall; in [0, 1].
        num_resamples: number of bootstrap resamples.
        primary: the metric that decides, a key of `evaluation.comparison.LABELS`; "" is AP, and
            the report says that none was named.
        is_paired: whether run number k of every side has the same seed.

    Raises:
        UserError: the metric is unknown or paired sides have different numbers of runs; a run is
            missing, has no test, is damaged or has only proposals; runs were tested
            on different data sets or images; two sides have the same name; or the output folder
            cannot be written.
    """
    sides = [baseline, *candidates]
    if names and len(names) != len(sides):
        raise UserError(
            f"--names needs {len(sides)} names, the baseline's first, given {len(names)}"
        )
    names = list(names) or _folder_names([side[0] for side in sides])
    check_names(names)
    design = _design(sides, primary, is_paired)
    check_writable_folder(output_dir, "to the output folder", "choose another --output-dir")
    runs = [[open_run(folder, dataset) for folder in side] for side in sides]
    _check_distinct(runs)
    every_run = [run for side in runs for run in side]
    tested = common_dataset(every_run)
    entry = ground_truth_entry(tested, config, annotations)
    ground_truth = common_images(every_run, read_ground_truth(entry))
    weights = image_resamples(len(ground_truth.imgs), num_resamples)
    limit = config.LIBRA.EVALUATION.AP_DETECTIONS
    measured = [
        Side(name, [measure(run, ground_truth, weights, threshold, limit) for run in side])
        for name, side in zip(names, runs)
    ]
    about = {
        "dataset": tested,
        "num_images": len(ground_truth.imgs),
        "score_threshold": threshold,
        "num_resamples": num_resamples,
    }
    content = write_comparison(output_dir, measured[0], measured[1:], about, design)
    for line in content["warnings"]:
        _LOG.warning("%s", line)
    _LOG.info("written: %s", os.path.join(output_dir, "comparison.html"))
    return as_markdown(content)


def _design(sides: list[Sequence[str]], primary: str, is_paired: bool) -> Design:
    check_primary(primary or PRIMARY, "--primary")
    counts = {len(side) for side in sides}
    if is_paired and len(counts) > 1:
        given = ", ".join(str(len(side)) for side in sides)
        raise UserError(f"--paired needs as many runs on every side, given {given}")
    if not is_paired and counts != {1}:
        _LOG.info(
            "the runs are compared as unpaired (Welch): if run number k of every side has the same "
            "seed, --paired gives a narrower interval"
        )
    return Design(primary or PRIMARY, bool(primary), is_paired, len(sides) - 1)


def _folder_names(folders: list[str]) -> list[str]:
    """Return the last parts of paths or, if two are equal, the paths; a repetition gets "(2)"."""
    names = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    if len(set(names)) == len(names):
        return names
    earlier = [folders[:place].count(folder) for place, folder in enumerate(folders)]
    return [f"{path} ({n + 1})" if n else path for path, n in zip(folders, earlier)]


def ground_truth_entry(dataset: str, config: Settings, annotations: str = "") -> DatasetEntry:
    """Return the entry of a data set whose images are not needed.

    Args:
        dataset: its catalog name.
        config: a merged configuration. Its DATASETS_EXTRA may have the data set.
        annotations: COCO annotation file; "" takes that of the catalog.

    Raises:
        DatasetError: the name is unknown, and no file is given.
    """
    if annotations:
        return DatasetEntry(dataset, "", annotations)
    try:
        return resolve(dataset, config)
    except DatasetError as error:
        raise DatasetError(
            f"{error}; name that configuration with --cfg, or an annotation file with --annotations"
        ) from None


def _check_distinct(sides: list[list[TestRun]]) -> None:
    """Refuse a run that is given twice on one side, because it would count as two seeds."""
    for side in sides:
        paths = [run.path for run in side]
        for run in side:
            if paths.count(run.path) > 1:
                raise UserError(f"{run.name} is given twice on one side: name each run once")
