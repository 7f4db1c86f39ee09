"""The tests of all folds of a cross-validation as one test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from pycocotools.coco import COCO

from detectron_ext.evaluation.run_folder import TestRun
from detectron_ext.evaluation.training_log import TrainingLog


@dataclass
class PooledRun(TestRun):
    """Tests on different images of one data set, whose detections are scored together.

    Attributes:
        parts: the tests; their image ids are those of the whole data set.
    """

    __test__ = False  # pytest must not collect this class as a test

    parts: Sequence[TestRun] = field(default_factory=list)

    def detections(self, coco_gt: COCO) -> list | None:
        """Return the detections of all parts; None if a part kept none. See `TestRun`."""
        found = [part.detections(coco_gt) for part in self.parts]
        if any(one is None for one in found):
            return None
        return [detection for one in found for detection in one or ()]

    @property
    def untested_images(self) -> list:
        """Ids of the images that the tests skipped."""
        return [image for part in self.parts for image in part.untested_images]

    def training(self) -> TrainingLog:
        """Return an empty log: each part was trained for itself."""
        return TrainingLog([])


def pooled(name: str, dataset: str, parts: Sequence[TestRun]) -> PooledRun:
    """Return the pooled test of several ones.

    Args:
        name: name of the run in tables and messages.
        dataset: name of the whole data set.
        parts: the tests.
    """
    return PooledRun(name, dataset, parts[0].path, parts=parts)
