"""Checks that runs can be compared: different names, the same data set and images."""

from __future__ import annotations

from typing import Sequence

from pycocotools.coco import COCO

from detectron_ext.counted import by_number, counted
from detectron_ext.errors import UserError
from detectron_ext.evaluation.coco_eval import without_images
from detectron_ext.evaluation.run_folder import TestRun


def check_names(names: Sequence[str]) -> None:
    """Check that all names are different, because tables and figures identify runs by name.

    Raises:
        UserError: two names are equal.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two runs are called {name}: give them different names with --names")


def common_dataset(runs: Sequence[TestRun]) -> str:
    """Return the catalog name of the data set that all runs were tested on.

    Raises:
        UserError: they were tested on different data sets.
    """
    for run in runs[1:]:
        if run.dataset != runs[0].dataset:
            raise UserError(
                f"{runs[0].name} was tested on {runs[0].dataset}, {run.name} on {run.dataset}: "
                "only runs on one data set can be compared"
            )
    return runs[0].dataset


def common_images(runs: Sequence[TestRun], coco_gt: COCO) -> COCO:
    """Return the ground truth of the images that all runs were tested on.

    If the runs skipped images, a warning with their number is added to each run.

    Raises:
        UserError: the runs skipped different images, or no image, class or object is left.
    """
    first, *others = runs
    for run in others:
        if set(run.untested_images) != set(first.untested_images):
            raise UserError(
                f"{first.name} and {run.name} were not tested on the same images (they skipped "
                f"{len(first.untested_images)} and {len(run.untested_images)}, see untested_images "
                "in results.json): repeat both tests with all images"
            )
    truth = without_images(coco_gt, first.untested_images)
    if not truth.imgs or not truth.cats:
        missing = "class" if truth.imgs else "image"
        raise UserError(f"{first.dataset} has no {missing} that was tested: nothing to compare")
    if all(annotation.get("iscrowd") for annotation in truth.anns.values()):
        raise UserError(
            f"{first.dataset} has no usable box of an object in the images that were tested, so "
            "every AP is undefined: nothing to compare"
        )
    if len(truth.imgs) == len(coco_gt.imgs):
        return coco_gt
    skipped = len(coco_gt.imgs) - len(truth.imgs)
    for run in runs:
        run.warnings.append(
            f"{skipped} of {counted(len(coco_gt.imgs), 'image')} of {run.dataset} "
            f"{by_number(skipped, 'was', 'were')} skipped when the runs were tested, and "
            f"{by_number(skipped, 'is', 'are')} not scored"
        )
    return truth
