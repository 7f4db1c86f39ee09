"""Comparing tested runs."""

from __future__ import annotations

import logging
import os
from typing import Sequence

from detectron_ext.data.catalog import DatasetEntry, resolve
from detectron_ext.data.coco_dataset import read_ground_truth
from detectron_ext.errors import DatasetError, UserError
from detectron_ext.evaluation.comparable import check_names, common_dataset, common_images
from detectron_ext.evaluation.comparison import image_resamples, measure
from detectron_ext.evaluation.comparison_report import Side, as_markdown, write_comparison
from detectron_ext.evaluation.operating_points import THRESHOLD
from detectron_ext.evaluation.run_folder import open_run

_LOG = logging.getLogger(__name__)


def compare_runs(
    config,
    baseline: Sequence[str],
    candidates: Sequence[Sequence[str]],
    output_dir: str,
    names: Sequence[str] = (),
    dataset: str = "",
    annotations: str = "",
    threshold: float = THRESHOLD,
    num_resamples: int = 1000,
) -> str:
    """Compare candidates with a baseline; returns the tables as Markdown.

    Args:
        config: for DATASETS_EXTRA.
        baseline: folders of its runs, which differ in their seeds.
        candidates: the same of each candidate.
        output_dir: gets comparison.json, .csv, .md and .html.
        names: of the baseline and of each candidate; by default that of their first folder, with
            its path where two folders have one name.
        dataset: catalog name of the test to compare; needed where runs have several, unless the
            folder of one is named.
        annotations: COCO JSON file of what was tested; the catalog's by default.
        threshold: score at which precision and recall are taken.
        num_resamples: of the bootstrap.

    Raises:
        UserError: a missing, empty or damaged run, one of an RPN alone, runs on different data sets
            or images, or two sides given one name.
    """
    sides = [baseline, *candidates]
    if names and len(names) != len(sides):
        raise UserError(
            f"--names needs {len(sides)} names, the baseline's first, given {len(names)}"
        )
    names = list(names) or _folder_names([side[0] for side in sides])
    check_names(names)
    runs = [[open_run(folder, dataset) for folder in side] for side in sides]
    _check_distinct(runs)
    every_run = [run for side in runs for run in side]
    tested = common_dataset(every_run)
    entry = DatasetEntry(tested, "", annotations) if annotations else _entry(tested, config)
    ground_truth = common_images(every_run, read_ground_truth(entry))
    weights = image_resamples(len(ground_truth.imgs), num_resamples)
    measured = [
        Side(name, [measure(run, ground_truth, weights, threshold) for run in side])
        for name, side in zip(names, runs)
    ]
    about = {
        "dataset": tested,
        "num_images": len(ground_truth.imgs),
        "score_threshold": threshold,
        "num_resamples": num_resamples,
    }
    content = write_comparison(output_dir, measured[0], measured[1:], about)
    for line in content["warnings"]:
        _LOG.warning("%s", line)
    _LOG.info("written: %s", os.path.join(output_dir, "comparison.html"))
    return as_markdown(content)


def _folder_names(folders: list) -> list:
    """Last parts of the paths, or the paths; one given again, to be compared with itself, (2)."""
    names = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    if len(set(names)) == len(names):
        return names
    earlier = [folders[:place].count(folder) for place, folder in enumerate(folders)]
    return [f"{path} ({n + 1})" if n else path for path, n in zip(folders, earlier)]


def _entry(dataset: str, config) -> DatasetEntry:
    try:
        return resolve(dataset, config)
    except DatasetError as error:
        raise DatasetError(
            f"{error}; --cfg names that configuration, --annotations a file"
        ) from None


def _check_distinct(sides: list) -> None:
    """One run given twice would pass for two seeds without spread."""
    for side in sides:
        paths = [run.path for run in side]
        for run in side:
            if paths.count(run.path) > 1:
                raise UserError(f"{run.name} is given twice on one side: name each run once")
