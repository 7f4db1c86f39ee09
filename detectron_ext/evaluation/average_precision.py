"""COCO average precision of resampled images, without matching the boxes again.

A resample says how often each image counts. If every image counts once, the results are
those of pycocotools to the last digit.
"""

from __future__ import annotations

import numpy as np

from detectron_ext.evaluation.coco_eval import METRICS, average_precisions
from detectron_ext.evaluation.detection_limit import COCO_LIMIT
from detectron_ext.evaluation.matches import NUM_AREAS, NUM_IOUS, ClassMatches, Matches, chunks

# The recall thresholds of COCOeval's parameters.
_RECALLS = np.linspace(0.0, 1.0, 101)


def resampled_average_precision(
    matches: Matches, weights: np.ndarray, limit: int = COCO_LIMIT
) -> dict[str, np.ndarray]:
    """Return AP, AP50, AP75, APs, APm and APl of resamples of the images.

    Args:
        matches: matches of a test with I images.
        weights: (B, I) int64, how often each image counts in each of B resamples.
        limit: number of detections of a class in an image that count, the best ones.

    Returns:
        {metric: (B,) float64}, NaN for a resample without ground truth for the metric.
    """
    areas = [[found.within(limit) for found in classes] for classes in matches.areas]
    matches = matches._replace(areas=areas)
    scores: dict[str, list] = {name: [] for name in METRICS}
    # Resamples are processed in chunks, to limit memory. The largest arrays are those of the
    # detections of one class, and the table of all classes, which may take 64 MB.
    table_size = NUM_IOUS * len(_RECALLS) * len(matches.class_names) * NUM_AREAS
    most = max((len(found.scores) for found in matches.areas[0]), default=0)
    for rows in chunks(len(weights), max(most, table_size // 4)):
        for found in _metrics(matches, weights[rows]):
            for name, value in found.items():
                scores[name].append(np.nan if value is None else value)
    return {name: np.array(values, np.float64) for name, values in scores.items()}


def _metrics(matches: Matches, weights: np.ndarray) -> list[dict]:
    """Return the metrics of each resample. The tables are freed when the function returns."""
    return [average_precisions(table) for table in _precision(matches, weights)]


def _precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """Return COCOeval's table of precision for each resample; -1 without ground truth."""
    shape = (len(weights), NUM_IOUS, len(_RECALLS), len(matches.class_names), NUM_AREAS)
    table = np.full(shape, -1.0)
    for area, classes in enumerate(matches.areas):
        for index, found in enumerate(classes):
            _fill(table[..., index, area], found, weights)
    return table


def _fill(table: np.ndarray, found: ClassMatches, weights: np.ndarray) -> None:
    """Fill the table (B, 10, 101) of one class and area.

    Recall rises only at correct detections, and precision has its local maxima there. Therefore
    only correct detections are kept, once the wrong ones are counted.
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
    """Return the smallest numbers of hits that reach each of the 101 recalls: (B, 101) int64.

    The product of recall and number may be rounded wrongly. The comparison of floats that COCOeval
    makes corrects it.
    """
    total = np.maximum(num_truth, 1)[:, None]
    needed = np.floor(_RECALLS * total).astype(np.int64)
    needed += needed / total < _RECALLS
    return needed


def _at_recalls(best: np.ndarray, hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Return the precision at each recall, (B, R).

    Args:
        best: (B, H) precision at each correct detection.
        hits: (B, H) number of correct detections up to it; it rises in each row.
        needed: (B, R) number of correct detections that reach each recall. A recall that is not
            reached has precision 0.
    """
    num_rows, num_hits = hits.shape
    # An offset makes the numbers of a row larger than those of the row before, so that one search
    # serves all rows.
    lift = (np.arange(num_rows) * (max(needed.max(), hits.max(initial=0)) + 1))[:, None]
    where = np.searchsorted((hits + lift).ravel(), needed + lift)
    where -= np.arange(num_rows)[:, None] * num_hits
    padded = np.concatenate([best, np.zeros((num_rows, 1))], axis=1)
    return np.take_along_axis(padded, where, axis=1)
