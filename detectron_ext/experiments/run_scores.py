"""Scores of a sweep's finished runs; with cross-validation, of each fold and of all together."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, NamedTuple, Sequence

import numpy as np
from pycocotools.coco import COCO

from detectron_ext.config import Config
from detectron_ext.data.catalog import resolve
from detectron_ext.data.coco_dataset import read_ground_truth
from detectron_ext.evaluation.coco_eval import without_images
from detectron_ext.evaluation.comparable import common_dataset, common_images
from detectron_ext.evaluation.comparison import Measured, image_resamples, measure
from detectron_ext.evaluation.pooled_run import pooled
from detectron_ext.evaluation.run_folder import TestRun
from detectron_ext.experiments.folds import all_images
from detectron_ext.experiments.spec import Run

_LOG = logging.getLogger(__name__)


class FinishedRun(NamedTuple):
    """A finished run.

    Attributes:
        run: the run.
        config: its configuration.
        test: its test on the first of its TEST.DATASETS.
    """

    run: Run
    config: Config
    test: TestRun


class Scores(NamedTuple):
    """Scores of the runs at one data set and size.

    Attributes:
        dataset: name of the data set; with folds that of all their images.
        num_images: number of its images.
        trainings: scores of each run in the order given, with folds on the images of its fold.
        models: {(variant, seed): scores of the run}, with folds of the pooled tests of those
            whose folds have all finished.
        folds: {(variant, seed): scores of its folds in their order}; {} without folds.
        tests: all tests, pooled ones too, for their warnings.
    """

    dataset: str
    num_images: int
    trainings: list[Measured]
    models: dict[tuple[str, int], Measured]
    folds: dict[tuple[str, int], list[Measured]]
    tests: list[TestRun]


def scores(tests: Sequence[FinishedRun], num_resamples: int) -> Scores:
    """Score runs that were all tested on one data set.

    Args:
        tests: the finished runs at one data set and size; at least one.
        num_resamples: number of bootstrap resamples of the images.

    Raises:
        UserError: runs were tested on different data sets or images, or files are damaged.
    """
    opened = [one.test for one in tests]
    dataset = common_dataset(opened)
    truth = common_images(opened, read_ground_truth(resolve(dataset, tests[0].config)))
    weights = image_resamples(len(truth.imgs), num_resamples)
    measured = []
    for one in tests:
        _LOG.info("scoring %s", one.run.folder)
        measured.append(measure(one.test, truth, weights))
    models = {(one.run.variant, one.run.seed): own for one, own in zip(tests, measured)}
    return Scores(dataset, len(truth.imgs), measured, models, {}, opened)


def pooled_scores(tests: Sequence[FinishedRun], results_dir: str, num_resamples: int) -> Scores:
    """Score each fold, and for each variant and seed all folds together.

    Args:
        tests: the finished runs at one data set and size; at least one.
        results_dir: results folder of the sweep.
        num_resamples: number of bootstrap resamples of the images.

    Raises:
        UserError: runs of a fold were tested on different images, or files are damaged.
    """
    first = tests[0].run.fold
    assert first is not None
    truths = _truths_of_folds(tests)
    trainings = [_on_its_fold(test, truths[_number(test)]) for test in tests]
    complete: dict[tuple[str, int], dict[int, int]] = {}
    for index, test in enumerate(tests):
        complete.setdefault((test.run.variant, test.run.seed), {})[_number(test)] = index
    complete = {key: own for key, own in complete.items() if len(own) == len(first.folds.scored)}
    entry = all_images(results_dir, first)
    pools = {
        key: pooled(f"{key[0]}/seed{key[1]}", entry.name, [tests[own[k]].test for k in sorted(own)])
        for key, own in complete.items()
    }
    scored = {image for truth in truths.values() for image in truth.imgs}
    whole = read_ground_truth(entry)
    whole = without_images(whole, set(whole.imgs) - scored)
    weights = image_resamples(len(whole.imgs), num_resamples)
    measured = {}
    for key, run in pools.items():
        _LOG.info("scoring %s, all folds", run.name)
        costs = _mean_costs([trainings[index] for index in complete[key].values()])
        measured[key] = replace(measure(run, whole, weights), costs=costs)
    return Scores(
        entry.name,
        len(whole.imgs),
        trainings,
        measured,
        {key: [trainings[own[k]] for k in sorted(own)] for key, own in complete.items()},
        [*(test.test for test in tests), *pools.values()],
    )


def _number(test: FinishedRun) -> int:
    assert test.run.fold is not None
    return test.run.fold.number


def _truths_of_folds(tests: Sequence[FinishedRun]) -> dict[int, COCO]:
    """Return the ground truth of each fold: its images that were tested."""
    by_number: dict[int, list[FinishedRun]] = {}
    for test in tests:
        by_number.setdefault(_number(test), []).append(test)
    truths = {}
    for number, own in by_number.items():
        config = own[0].config
        whole = read_ground_truth(resolve(config.TEST.DATASETS[0], config))
        truths[number] = common_images([test.test for test in own], whole)
    return truths


def _on_its_fold(test: FinishedRun, truth: COCO) -> Measured:
    _LOG.info("scoring %s", test.run.folder)
    return measure(test.test, truth, image_resamples(len(truth.imgs), 0))


def _mean_costs(trainings: Sequence[Measured]) -> dict[str, Any]:
    """Return the mean costs of a training; None if one of them is unknown."""
    values = {name: [one.costs[name] for one in trainings] for name in trainings[0].costs}
    return {name: None if None in own else float(np.mean(own)) for name, own in values.items()}
