"""COCO average precision of resampled images, without matching anew.

A resample is given by how often each image counts. With every image once the figures are
pycocotools' own to the last digit.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.evaluation.coco_eval import METRICS, average_precisions
from detectron_ext.evaluation.matches import NUM_AREAS, NUM_IOUS, ClassMatches, Matches, chunks

# As COCOeval's parameters have them.
_RECALLS = np.linspace(0.0, 1.0, 101)


def resampled_average_precision(matches: Matches, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AP, AP50, AP75, APs, APm and APl of resamples of the images.

    Args:
        matches: of a test run with I images.
        weights: (B, I) int64, how often each image counts in each of B resamples.

    Returns:
        {metric: (B,) float64}, NaN where a resample has no ground truth that defines it.
    """
    scores: dict[str, list] = {name: [] for name in METRICS}
    # What is worked on at a time: detections of one class, in several arrays, and the one table of
    # all classes, which may be larger: 64 MB.
    table_size = NUM_IOUS * len(_RECALLS) * len(matches.class_names) * NUM_AREAS
    most = max((len(found.scores) for found in matches.areas[0]), default=0)
    for rows in chunks(len(weights), max(most, table_size // 4)):
        for found in _metrics(matches, weights[rows]):
            for name, value in found.items():
                scores[name].append(np.nan if value is None else value)
    return {name: np.array(values, np.float64) for name, values in scores.items()}


def _metrics(matches: Matches, weights: np.ndarray) -> list[dict]:
    """Of each resample; its tables are gone before the next ones are made."""
    return [average_precisions(table) for table in _precision(matches, weights)]


def _precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """Precision as COCOeval tabulates it, a table a resample; -1 without ground truth."""
    shape = (len(weights), NUM_IOUS, len(_RECALLS), len(matches.class_names), NUM_AREAS)
    table = np.full(shape, -1.0)
    for area, classes in enumerate(matches.areas):
        for index, found in enumerate(classes):
            _fill(table[..., index, area], found, weights)
    return table


def _fill(table: np.ndarray, found: ClassMatches, weights: np.ndarray) -> None:
    """Fill in (B, 10, 101) of one class and area.

    Recall rises, and precision has its local maxima, only where a detection is right; so wrong
    ones are counted and then left out.
    """
    num_truth = weights @ found.num_truth
    needed = _needed_hits(num_truth)
    defined = num_truth > 0
    seen, kept = np.zeros((len(weights), 0)), None
    for iou in range(NUM_IOUS):
        now_kept = ~found.ignored[iou]
        if kept is None or not np.array_equal(kept, now_kept):
            kept = now_kept
            seen = np.cumsum(weights[:, found.images[kept]], axis=1)
        is_hit = found.matched[iou][kept]
        hits = np.cumsum(weights[:, found.images[kept][is_hit]], axis=1)
        precision = hits / (seen[:, is_hit] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        table[defined, iou] = _at_recalls(best, hits, needed)[defined]


def _needed_hits(num_truth: np.ndarray) -> np.ndarray:
    """The least number of hits whose recall reaches each of the 101 recalls: (B, 101) int64.

    The product's rounding is put right by the very comparison of floats that COCOeval makes.
    """
    total = np.maximum(num_truth, 1)[:, None]
    needed = np.floor(_RECALLS * total).astype(np.int64)
    needed += needed / total < _RECALLS
    return needed


def _at_recalls(best: np.ndarray, hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """best (B, H) where hits (B, H), which rise along a row, first reach needed (B, R); else 0."""
    num_rows, num_hits = hits.shape
    # One search in all rows: each is lifted above all that is looked for in the one before.
    lift = (np.arange(num_rows) * (max(needed.max(), hits.max(initial=0)) + 1))[:, None]
    where = np.searchsorted((hits + lift).ravel(), needed + lift)
    where -= np.arange(num_rows)[:, None] * num_hits
    padded = np.concatenate([best, np.zeros((num_rows, 1))], axis=1)
    return np.take_along_axis(padded, where, axis=1)
