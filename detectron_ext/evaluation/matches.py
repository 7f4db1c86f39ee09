"""COCO's matches of detections to ground truth, stored by image.

pycocotools accumulates over all images of a data set. Here the image of each match is stored, so
that any resample of the images can be scored without matching again (see `average_precision`).
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

import numpy as np

from detectron_ext.evaluation.coco_eval import MatchedDetections

NUM_IOUS = 10
NUM_AREAS = 4
# Largest number of entries in an array of several resamples: 16 MB of int64 or float64.
_MOST_ENTRIES = 2_000_000


class ClassMatches(NamedTuple):
    """Detections of one class matched to ground truth of one range of areas, best score first.

    Attributes:
        images: (D,) int64, index of each detection's image in the data set.
        scores: (D,) float64.
        matched: (10, D) bool, whether a detection is matched to a ground-truth box, at each IoU
            0.50:0.05:0.95.
        ignored: (10, D) bool, whether a detection counts neither as right nor as wrong. It is then
            matched to a crowd or to an object outside the range of areas, or it is unmatched and
            itself outside the range.
        num_truth: (I,) int64, number of ground-truth boxes of each image that count.
        ranks: (D,) int64, number of better detections of the class in the image.
    """

    images: np.ndarray
    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    num_truth: np.ndarray
    ranks: np.ndarray

    def within(self, limit: int) -> ClassMatches:
        """Return the matches of the ``limit`` best detections of each image."""
        kept = self.ranks < limit
        if kept.all():
            return self
        return self._replace(
            images=self.images[kept],
            scores=self.scores[kept],
            matched=self.matched[:, kept],
            ignored=self.ignored[:, kept],
            ranks=self.ranks[kept],
        )


class Matches(NamedTuple):
    """Matches of a test.

    Attributes:
        image_ids: ids of the I images.
        class_names: names of the K classes.
        areas: four lists of K ClassMatches: for objects of all sizes, small, medium and large ones.
    """

    image_ids: list
    class_names: list
    areas: list[list[ClassMatches]]


def collect_matches(matched: MatchedDetections) -> Matches:
    """Collect the matches that COCOeval stores image by image."""
    num_images, names = len(matched.image_ids), list(matched.class_names.values())
    if matched.coco_eval is None:
        nothing = _class_matches([None] * num_images)
        return Matches(matched.image_ids, names, [[nothing] * len(names)] * NUM_AREAS)
    entries = matched.coco_eval.evalImgs  # by class, then area, then image
    starts = range(0, len(entries), num_images)
    found = [_class_matches(entries[start : start + num_images]) for start in starts]
    areas = [found[area::NUM_AREAS] for area in range(NUM_AREAS)]
    return Matches(matched.image_ids, names, areas)


def _class_matches(entries: list) -> ClassMatches:
    """Return the matches of one class and area from COCOeval's entries of all images."""
    num_truth = np.zeros(len(entries), np.int64)
    images, scores, ranks = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    matched, ignored = [np.zeros((NUM_IOUS, 0), bool)], [np.zeros((NUM_IOUS, 0), bool)]
    for index, entry in enumerate(entries):
        if entry is None:
            continue
        num_truth[index] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
        images.append(np.full(len(entry["dtScores"]), index))
        scores.append(np.asarray(entry["dtScores"], np.float64))
        ranks.append(np.arange(len(entry["dtScores"])))
        matched.append(np.asarray(entry["dtMatches"]) != 0)
        ignored.append(np.asarray(entry["dtIgnore"]) != 0)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="mergesort")  # as pycocotools breaks ties
    return ClassMatches(
        np.concatenate(images)[order],
        all_scores[order],
        np.concatenate(matched, axis=1)[:, order],
        np.concatenate(ignored, axis=1)[:, order],
        num_truth,
        np.concatenate(ranks)[order],
    )


def chunks(num_resamples: int, num_entries: int) -> Iterator[slice]:
    """Divide resamples into chunks, so that memory does not grow with their number.

    Args:
        num_resamples: number of all resamples.
        num_entries: number of entries of one resample in the largest array.
    """
    step = int(min(max(_MOST_ENTRIES // max(num_entries, 1), 1), 100))
    for start in range(0, num_resamples, step):
        yield slice(start, start + step)
